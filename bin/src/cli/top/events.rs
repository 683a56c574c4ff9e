//! The last events of the proxy, heard by a thread of their own: the main one waits for keys.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, sync_channel};

use kakehi_command::proto::SubscribeEvents;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;

use super::super::CliError;
use super::super::client::{Patience, Proxy};
use super::super::events::text;

/// So many are kept to be shown.
const KEPT_MAX: usize = 5;

/// Beyond so many that were not looked at yet, the proxy waits, and drops what it can't say.
const WAITING_MAX: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Events {
    heard: Receiver<String>,
    recent: VecDeque<String>,
}

impl Events {
    /// Subscribes by a connection of its own.
    pub(super) fn subscribe(proxy: &Proxy) -> Result<Self, CliError> {
        let (told, heard) = sync_channel(WAITING_MAX);
        let mut proxy = proxy.beside();
        proxy.send(RequestType::SubscribeEvents(SubscribeEvents {}))?;
        std::thread::spawn(move || {
            // Until the proxy, or the screen, is gone.
            while let Ok(response) = proxy.receive(Patience::Unlimited) {
                let content = response.content.as_ref().and_then(|content| content.content_type.as_ref());
                if let Some(ContentType::Event(event)) = content
                    && told.send(text(&response, event).trim_end().to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self { heard, recent: VecDeque::new() })
    }

    /// The last ones, the oldest first.
    pub(super) fn recent(&mut self) -> &VecDeque<String> {
        while let Ok(line) = self.heard.try_recv() {
            self.recent.push_back(line);
            if self.recent.len() > KEPT_MAX {
                self.recent.pop_front();
            }
        }
        &self.recent
    }
}
