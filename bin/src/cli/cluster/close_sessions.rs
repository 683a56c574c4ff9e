//! `cluster close-sessions`: what goes to a cluster's backends ends.

use std::net::SocketAddr;

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{self, WorkerResponses};

use super::super::table::Table;

/// Arguments of `cluster close-sessions`.
#[derive(clap::Args, Debug)]
pub(in super::super) struct CloseSessions {
    /// Name of the cluster
    #[arg(short, long, value_name = "CLUSTER")]
    id: String,
    /// Only of the backends of this name
    #[arg(long, value_name = "BACKEND")]
    backend_id: Option<String>,
    /// Only of the backends at this address
    #[arg(short, long, value_name = "IP:PORT")]
    address: Option<SocketAddr>,
}

impl CloseSessions {
    pub(super) fn request(self) -> RequestType {
        RequestType::CloseSessions(proto::CloseSessions {
            cluster_id: self.id,
            backend_id: self.backend_id,
            address: self.address.map(Into::into),
        })
    }
}

/// What each worker has closed; none if the answers are about something else.
pub(in super::super) fn render(responses: &WorkerResponses, width: Option<usize>) -> Option<String> {
    let mut workers: Vec<_> = responses.map.iter().collect();
    workers.sort_by_key(|(who, _)| who.parse::<u64>().unwrap_or(u64::MAX));
    let mut table = Table::new(["worker", "closed", "end with their answer"]);
    for (who, content) in workers {
        let Some(ContentType::ClosedSessions(counts)) = content.content_type.as_ref() else { return None };
        table.row([who.clone(), counts.closed.to_string(), counts.draining.to_string()]);
    }
    (!table.is_empty()).then(|| table.render(width))
}
