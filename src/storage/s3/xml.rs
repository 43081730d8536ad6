//! The documents of S3, read by rust-s3's types and judged.

use std::time::SystemTime;

use chrono::DateTime;
use s3::serde_types::{DeleteObjectsResult, ListBucketResult};
use serde::Deserialize;

use super::error::Failure;

/// One page of a listing, its keys ascending.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) objects: Vec<Object>,
    /// There are more keys behind the last one.
    pub(super) truncated: bool,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) key: String,
    pub(super) modified: SystemTime,
    pub(super) size: u64,
    /// Its entity tag, without quotes.
    pub(super) tag: Option<String>,
}

#[derive(Deserialize)]
struct ErrorDocument {
    #[serde(rename = "Code")]
    code: String,
}

/// The code of an error document; `None` for any other body. Nothing else of it is told, because
/// some errors repeat what was signed.
pub(super) fn error_code(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok().filter(|text| text.contains("<Error"))?;
    let ErrorDocument { code } = quick_xml::de::from_str(text).ok()?;
    let fits = (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
    fits.then_some(code)
}

/// A page that was asked for with `prefix` and `start_after`. One that does not stay within the
/// prefix or does not go on from there is refused, so that no walk is led astray or in circles.
pub(super) fn listed(body: &[u8], prefix: &str, start_after: &str) -> Result<Listed, Failure> {
    let page: ListBucketResult = document(body, "<ListBucketResult")?;
    let mut last = start_after;
    let mut objects = Vec::with_capacity(page.contents.len());
    for object in &page.contents {
        if !object.key.starts_with(prefix) || *object.key <= *last && !(last.is_empty() && objects.is_empty())
        {
            return Err(bad("the listing's keys do not ascend within what was asked for"));
        }
        last = &object.key;
        let modified = DateTime::parse_from_rfc3339(&object.last_modified)
            .map_err(|_| bad("the listing has a time that is none"))?;
        let tag = object.e_tag.as_deref().map(|tag| tag.trim_matches('"').to_owned());
        objects.push(Object { key: object.key.clone(), modified: modified.into(), size: object.size, tag });
    }
    if page.is_truncated && objects.is_empty() {
        return Err(bad("the listing has more, but gives nothing"));
    }
    Ok(Listed { objects, truncated: page.is_truncated })
}

/// The keys that a batch did not delete, with the codes why.
pub(super) fn not_deleted(body: &[u8]) -> Result<Vec<(String, String)>, Failure> {
    let result: DeleteObjectsResult = document(body, "<DeleteResult")?;
    Ok(result.errors.into_iter().map(|error| (error.key, error.code)).collect())
}

/// A document whose root is the one that was asked for: a 200 may hold an error or a login page.
fn document<T: for<'de> Deserialize<'de>>(body: &[u8], root: &str) -> Result<T, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| bad("it is not UTF-8"))?;
    if !text.contains(root) {
        let code = error_code(body).map(|code| format!(" but says {code}")).unwrap_or_default();
        return Err(bad(format!("it is no {}>{code}", root)));
    }
    // The parser's error may repeat what it read.
    quick_xml::de::from_str(text).map_err(|_| bad(format!("it is no whole {root}>")))
}

fn bad(what: impl Into<String>) -> Failure {
    Failure::BadAnswer(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(keys: &[&str], truncated: bool) -> String {
        let object = |key| {
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-11-02T10:00:00.123Z</LastModified>\
                 <ETag>&quot;x&quot;</ETag><Size>5</Size><StorageClass>STANDARD</StorageClass>\
                 <Owner><ID>o</ID><DisplayName>o</DisplayName></Owner></Contents>"
            )
        };
        let objects: String = keys.iter().map(object).collect();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name><Prefix>p/</Prefix>\
             <MaxKeys>1000</MaxKeys><IsTruncated>{truncated}</IsTruncated>{objects}</ListBucketResult>"
        )
    }

    #[test]
    fn page_is_read() {
        let listed = listed(page(&["p/a&amp;b", "p/c"], true).as_bytes(), "p/", "p/a").expect("a page");
        let keys: Vec<_> = listed.objects.iter().map(|object| object.key.as_str()).collect();
        assert_eq!((keys.as_slice(), listed.truncated), (["p/a&b", "p/c"].as_slice(), true));
        let since = listed.objects[0].modified.duration_since(SystemTime::UNIX_EPOCH).expect("later");
        assert_eq!(since.as_millis(), 1_793_613_600_123);
    }

    #[test]
    fn page_that_leads_astray_is_refused() {
        for (keys, truncated) in [
            (vec!["q/a"], false),
            (vec!["p/a"], false),
            (vec!["p/b"], false),
            (vec!["p/d", "p/c"], false),
            (vec!["p/c", "p/c"], false),
            (vec![], true),
        ] {
            let listed = listed(page(&keys, truncated).as_bytes(), "p/", "p/b");
            assert!(matches!(listed, Err(Failure::BadAnswer(_))), "{keys:?}: {listed:?}");
        }
    }

    #[test]
    fn body_that_is_no_page_is_refused() {
        for body in
            ["", "<html>login</html>", "<Error><Code>SlowDown</Code></Error>", "<ListBucketResult>", "\u{0}"]
        {
            assert!(matches!(listed(body.as_bytes(), "", ""), Err(Failure::BadAnswer(_))), "{body}");
        }
        assert!(matches!(listed(&[0xff], "", ""), Err(Failure::BadAnswer(_))));
    }

    #[test]
    fn code_of_an_error_is_a_word_and_nothing_else_is_told() {
        let code = |text: &str| error_code(text.as_bytes());
        let error = "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>x</Message></Error>";
        assert_eq!(code(error).as_deref(), Some("NoSuchKey"));
        for text in ["", "nope", "<html>404</html>", "<Error></Error>", "<Error><Code>a b</Code></Error>"] {
            assert_eq!(code(text), None, "{text}");
        }
    }

    #[test]
    fn batch_tells_what_was_not_deleted() {
        let body = "<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b</Key><Code>InternalError</Code>\
                    <Message>m</Message></Error></DeleteResult>";
        let failed = not_deleted(body.as_bytes()).expect("a result");
        assert_eq!(failed, [("b".to_owned(), "InternalError".to_owned())]);
        let none = not_deleted(b"<DeleteResult xmlns=\"x\"></DeleteResult>").expect("a result");
        assert_eq!(none, []);
    }
}
