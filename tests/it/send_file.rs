//! Images that the kernel sends from their files: on one connection, one after the other, whole and in part.

#![cfg(target_os = "linux")]

use std::{fs::File, time::Duration};

use mcp_image_server::storage::NewImage;

use crate::{
    client::{send_raw, within},
    large,
    server::TestServer,
};

/// Two large pictures, and the server that has them.
async fn served(variables: &[(&str, &str)]) -> (TestServer, [NewImage; 2]) {
    let server = TestServer::start_with(variables).await;
    let life = Duration::from_secs(3600);
    let first = large::stored(server.folder(), 1, Duration::ZERO, life).await;
    let second = large::stored(server.folder(), 2, Duration::ZERO, life).await;
    (server, [first, second])
}

#[tokio::test]
async fn requests_in_a_row_get_their_own_bytes_in_order() {
    for cache in ["0", "67108864"] {
        let (server, [first, second]) = served(&[("IMAGE_CACHE_BYTES", cache)]).await;
        let (one, two) = (large::path_of(&first), large::path_of(&second));
        let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
        // Twice: the first time neither is known, and nothing is open yet.
        for _ in 0..2 {
            let requests = [
                get(&one, ""),
                get(&two, "Range: bytes=300000-1999999\r\n"),
                get(&two, "Range: bytes=-5\r\n"),
                get(&one, "Range: bytes=0-262144\r\n"),
                get(&two, "Connection: close\r\n"),
            ];
            let answer = send_raw(server.authority(), requests.concat().as_bytes()).await;
            let mut rest = answer.bytes();
            for expected in [
                &first.bytes[..],
                &second.bytes[300_000..2_000_000],
                &second.bytes[second.bytes.len() - 5..],
                &first.bytes[..=262_144],
                &second.bytes[..],
            ] {
                let head = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
                let (body, after) = rest[head..].split_at(expected.len());
                assert!(body == expected, "{cache}: {}", String::from_utf8_lossy(&rest[..head]));
                rest = after;
            }
            assert!(rest.is_empty());
        }
        assert!(server.stop().await);
    }
}

#[tokio::test]
async fn file_that_became_shorter_breaks_the_answer_off() {
    let (server, [image, _]) = served(&[("IMAGE_CACHE_BYTES", "0")]).await;
    let path = large::path_of(&image);
    let client = server.client();
    assert!(client.get(&path).await.body == image.bytes);
    // It is held open now.
    let file = server
        .folder()
        .join(image.metadata.image_id.bucket())
        .join(format!("{}.png", image.metadata.image_id));
    let file = File::options().write(true).open(file).expect("there");
    file.set_len(700_000).expect("cut");
    let answer = within(client.request("GET", &path).send()).await.expect("a head");
    assert_eq!(answer.status(), 200);
    assert!(within(answer.bytes()).await.is_err());
}
