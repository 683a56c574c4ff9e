//! What travels on a connection, as pure machines: bytes in, bytes and facts out.
//!
//! Nothing here reads a clock, owns a socket, logs or allocates per message. [`http`] is the
//! message model that every version of HTTP shares; [`h1`] is HTTP/1.0 and HTTP/1.1 on the wire
//! (RFC 9112); [`tls_record`] is TLS 1.3 after its handshake (RFC 8446 §5), [`client_hello`] the first
//! message of a TLS connection that is somebody else's (RFC 8446 §4.1.2), [`proxy_header`] what a proxy in front says of its
//! client before both.

pub mod client_hello;
pub mod h1;
pub mod http;
pub mod proxy_header;
pub mod tls_record;
