//! Tests of HTTP/1 that cross its files.
