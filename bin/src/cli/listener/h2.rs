//! Limits of HTTP/2 listeners, as flags of `listener http update`.
//!
//! Hidden from the help: this version serves no HTTP/2. They are sent, so that scripts that set them
//! keep working.

use kakehi_command::proto::UpdateHttpListenerConfig;

/// Declares the flags, all optional, under the names of the wire's fields.
macro_rules! limits {
    ($($name:ident: $number:ty,)*) => {
        /// One flag for each limit.
        #[derive(clap::Args, Debug)]
        pub(super) struct H2Limits {
            $(#[arg(long, hide = true)] $name: Option<$number>,)*
        }

        impl H2Limits {
            /// Sets the limits that were given.
            pub(super) fn put_into(self, patch: &mut UpdateHttpListenerConfig) {
                $(patch.$name = self.$name;)*
            }
        }
    };
}

limits! {
    h2_max_rst_stream_per_window: u32,
    h2_max_ping_per_window: u32,
    h2_max_settings_per_window: u32,
    h2_max_empty_data_per_window: u32,
    h2_max_window_update_stream0_per_window: u32,
    h2_max_continuation_frames: u32,
    h2_max_glitch_count: u32,
    h2_max_rst_stream_lifetime: u64,
    h2_max_rst_stream_abusive_lifetime: u64,
    h2_max_rst_stream_emitted_lifetime: u64,
    h2_stream_refusal_percent: u32,
    h2_initial_connection_window: u32,
    h2_max_concurrent_streams: u32,
    h2_stream_shrink_ratio: u32,
    h2_max_header_list_size: u32,
    h2_max_header_table_size: u32,
    h2_max_header_fields: u32,
    h2_stream_idle_timeout_seconds: u32,
    h2_graceful_shutdown_deadline_seconds: u32,
}
