//! `events`: what happens in the proxy, one line each, until one side goes away.
//!
//! Sōzu prints events through its logger, and nothing at all with `--json`; here they are output: a
//! line of text, or of JSON.

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{Event, EventKind, Response, ResponseStatus, SubscribeEvents};

use super::CliError;
use super::client::{Patience, Proxy};
use super::table::visible;
use super::values::address_text;

/// Subscribes, and prints until the connection ends.
pub(super) fn run(proxy: &mut Proxy) -> Result<(), CliError> {
    proxy.send(RequestType::SubscribeEvents(SubscribeEvents {}))?;
    loop {
        let response = proxy.receive(Patience::Unlimited)?;
        if response.status == i32::from(ResponseStatus::Failure) {
            return Err(CliError::Refused(response.message));
        }
        let content = response.content.as_ref().and_then(|content| content.content_type.as_ref());
        if let Some(ContentType::Event(event)) = content {
            let line = if proxy.output.is_json() { json(&response, event) } else { text(&response, event) };
            proxy.output.print(&line)?;
        }
    }
}

/// `<worker or main>, <kind>, backend=…, cluster=…, address=…`; what an event is not about is left out.
pub(super) fn text(response: &Response, event: &Event) -> String {
    let kind = EventKind::try_from(event.kind).map_or("UNKNOWN", |kind| kind.as_str_name());
    let mut line = format!("{}, {kind}", response.message);
    let address = event.address.as_ref().map(address_text);
    for (name, value) in
        [("backend", &event.backend_id), ("cluster", &event.cluster_id), ("address", &address)]
    {
        if let Some(value) = value {
            line.push_str(&format!(", {name}={value}"));
        }
    }
    line.push('\n');
    visible(&line)
}

/// One object on one line: who reports, and the event in the form of every other content.
fn json(response: &Response, event: &Event) -> String {
    format!("{}\n", serde_json::json!({ "source": response.message, "EVENT": event }))
}
