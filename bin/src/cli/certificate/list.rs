//! Certificates as tables: those of the state in full, those of the workers by name.

use kakehi_command::order::{CertificateFacts, date};
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{CertificatesWithFingerprints, ListOfCertificatesByAddress, WorkerResponses};

use super::super::table::{Table, visible};
use super::super::values::address_text;

/// Names that are written out; the rest are counted.
const NAMES_SHOWN_MAX: usize = 16;

/// One row for each certificate.
pub(in super::super) fn render(list: &CertificatesWithFingerprints, width: Option<usize>) -> String {
    if list.certs.is_empty() {
        return "no certificate\n".to_owned();
    }
    let mut table = Table::new(["fingerprint", "valid not before", "valid not after", "domain names"]);
    for (fingerprint, certificate) in &list.certs {
        match CertificateFacts::of(certificate) {
            Ok(facts) => table.row([
                fingerprint.clone(),
                date(facts.not_before),
                date(facts.not_after),
                names_text(&facts.names),
            ]),
            Err(error) => table.row([fingerprint.clone(), error.to_string()]),
        }
    }
    table.render(width)
}

fn names_text(names: &[Box<str>]) -> String {
    let mut text = names.iter().take(NAMES_SHOWN_MAX).map(|name| &**name).collect::<Vec<_>>().join(", ");
    if let Some(more) = names.len().checked_sub(NAMES_SHOWN_MAX).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// What each worker has; none if the answers are about something else.
pub(in super::super) fn render_workers(responses: &WorkerResponses, width: Option<usize>) -> Option<String> {
    let mut workers: Vec<_> = responses.map.iter().collect();
    workers.sort_by_key(|(who, _)| who.parse::<u64>().unwrap_or(u64::MAX));
    let mut out = String::new();
    for (who, content) in workers {
        let text = match content.content_type.as_ref()? {
            ContentType::CertificatesByAddress(list) => by_address(list),
            ContentType::CertificatesWithFingerprints(list) => render(list, width),
            _ => return None,
        };
        out.push_str(&format!("worker {}\n{text}", visible(who)));
    }
    Some(out).filter(|out| !out.is_empty())
}

/// The workers that answered with an empty list.
pub(super) fn workers_without_certificates(content: &ContentType) -> Vec<String> {
    let ContentType::WorkerResponses(responses) = content else { return Vec::new() };
    let is_empty = |content: Option<&ContentType>| match content {
        Some(ContentType::CertificatesByAddress(list)) => {
            list.certificates.iter().all(|at| at.certificate_summaries.is_empty())
        }
        Some(ContentType::CertificatesWithFingerprints(list)) => list.certs.is_empty(),
        _ => true,
    };
    let workers = responses.map.iter().filter(|(_, content)| is_empty(content.content_type.as_ref()));
    workers.map(|(who, _)| who.clone()).collect()
}

/// `address:`, then `fingerprint: name` lines.
fn by_address(list: &ListOfCertificatesByAddress) -> String {
    if list.certificates.is_empty() {
        return "no certificate\n".to_owned();
    }
    let mut out = String::new();
    for at in &list.certificates {
        out.push_str(&format!("{}:\n", address_text(&at.address)));
        for summary in &at.certificate_summaries {
            out.push_str(&format!("\t{}: {}\n", visible(&summary.fingerprint), visible(&summary.domain)));
        }
    }
    out
}
