//! Limits of HTTP/2 listeners, as flags of `listener http update`.
//!
//! This version serves no HTTP/2. They are sent and kept, so that scripts that set them keep working.

use kakehi_command::proto::UpdateHttpListenerConfig;

/// Declares the flags, all optional, under the names of the wire's fields.
macro_rules! limits {
    ($($name:ident: $number:ty, $help:literal;)*) => {
        /// One flag for each limit.
        #[derive(clap::Args, Debug)]
        pub(super) struct H2Limits {
            $(
                #[doc = $help]
                #[arg(long, value_name = "N", help_heading = "Limits of HTTP/2, kept but not served yet")]
                $name: Option<$number>,
            )*
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
    h2_max_rst_stream_per_window: u32, "RST_STREAM frames that a client may send in a window of time";
    h2_max_ping_per_window: u32, "PING frames that a client may send in a window of time";
    h2_max_settings_per_window: u32, "SETTINGS frames that a client may send in a window of time";
    h2_max_empty_data_per_window: u32, "Empty DATA frames that a client may send in a window of time";
    h2_max_window_update_stream0_per_window: u32, "WINDOW_UPDATE frames of the connection in a window of time";
    h2_max_continuation_frames: u32, "CONTINUATION frames of one block of headers";
    h2_max_glitch_count: u32, "Small violations of the protocol until the connection is closed";
    h2_max_rst_stream_lifetime: u64, "RST_STREAM frames that a client may send in all";
    h2_max_rst_stream_abusive_lifetime: u64, "RST_STREAM frames before the answer has begun, in all";
    h2_max_rst_stream_emitted_lifetime: u64, "RST_STREAM frames that a client may cause in all";
    h2_stream_refusal_percent: u32, "Streams that may be refused, in percent";
    h2_initial_connection_window: u32, "Bytes that a client may send ahead on a connection";
    h2_max_concurrent_streams: u32, "Streams at a time on a connection";
    h2_stream_shrink_ratio: u32, "How far a connection keeps room of streams that ended";
    h2_max_header_list_size: u32, "Bytes of a list of headers";
    h2_max_header_table_size: u32, "Bytes of the table that compresses headers";
    h2_max_header_fields: u32, "Headers of a request";
    h2_stream_idle_timeout_seconds: u32, "How long a stream may be silent, in seconds";
    h2_graceful_shutdown_deadline_seconds: u32, "How long streams may go on after GOAWAY, in seconds";
}
