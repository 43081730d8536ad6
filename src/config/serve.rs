//! The listeners, and how connections are taken and let go.

use super::{Default, Kind, reader::Reader, syntax, variable::variables};
use crate::serve;

variables! {
    HOST: Kind::Text("an IP address or a host name"),
        Default::Value("0.0.0.0"),
        "The address to listen on; `127.0.0.1` for this machine alone.";
    PORT: Kind::Integer { min: 0, max: 65_535, unit: "" },
        Default::Value("8000"),
        "The port to listen on; 0 lets the system choose.";
    METRICS_PORT: Kind::Integer { min: 0, max: 65_535, unit: "" },
        Default::Unset,
        "A second listener for `/metrics` and `/health` alone, so that they need not be public.";
    MAX_CONNECTIONS: Kind::Integer { min: 1, max: 1_000_000, unit: "connections" },
        Default::Value("4096"),
        "Connections open at once; further ones wait in the kernel's queue.";
    HEAD_TIMEOUT: Kind::Seconds { min: 0.1, max: 3600.0 },
        Default::Value("10"),
        "From accept to a whole request head, and from a later head's first byte to its last.";
    IDLE_TIMEOUT: Kind::Seconds { min: 0.1, max: 3600.0 },
        Default::Value("75"),
        "A connection is closed this long after its last response, if no request comes. Keep it above the \
         idle timeout of a proxy in front.";
    WRITE_TIMEOUT: Kind::Seconds { min: 0.1, max: 3600.0 },
        Default::Value("30"),
        "A client that takes no byte of a response for this long is cut off: the connection, or on HTTP/2 \
         that response's stream.";
    SHUTDOWN_DELAY: Kind::Seconds { min: 0.0, max: 3600.0 },
        Default::Value("2"),
        "After SIGTERM, readiness fails but new requests are still taken for this long, until \
         load balancers have noticed.";
    SHUTDOWN_GRACE: Kind::Seconds { min: 0.1, max: 86_400.0 },
        Default::Value("25"),
        "After SIGTERM, requests in flight have this long to finish, SHUTDOWN_DELAY included. Keep it \
         below the platform's own patience (`terminationGracePeriodSeconds`).";
}

pub(super) fn read(reader: &mut Reader) -> serve::Config {
    let config = serve::Config {
        host: reader.take(&HOST, syntax::host).unwrap_or_default(),
        port: reader.integer(&PORT).unwrap_or_default(),
        metrics_port: reader.integer(&METRICS_PORT),
        max_connections: reader.integer(&MAX_CONNECTIONS).unwrap_or_default(),
        head_timeout: reader.seconds(&HEAD_TIMEOUT).unwrap_or_default(),
        idle_timeout: reader.seconds(&IDLE_TIMEOUT).unwrap_or_default(),
        write_timeout: reader.seconds(&WRITE_TIMEOUT).unwrap_or_default(),
        shutdown_delay: reader.seconds(&SHUTDOWN_DELAY).unwrap_or_default(),
        shutdown_grace: reader.seconds(&SHUTDOWN_GRACE).unwrap_or_default(),
    };
    if config.port != 0 && config.metrics_port == Some(config.port) {
        reader.conflict(&[&PORT, &METRICS_PORT], format!("both are {}; give each its own port", config.port));
    }
    if config.shutdown_delay >= config.shutdown_grace {
        reader.conflict(
            &[&SHUTDOWN_DELAY, &SHUTDOWN_GRACE],
            format!(
                "the delay is part of the grace and must be shorter, but they are {} s and {} s",
                config.shutdown_delay.as_secs_f64(),
                config.shutdown_grace.as_secs_f64()
            ),
        );
    }
    config
}
