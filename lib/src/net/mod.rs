//! The only room that speaks to the kernel.

pub mod buffers;
pub mod request_id;
