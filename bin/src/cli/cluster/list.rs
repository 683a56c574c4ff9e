//! Clusters as tables: all of them by their hashes, or some in full, with a column for each worker.

use std::collections::{BTreeMap, BTreeSet};

use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{
    AddBackend, Cluster, ClusterHashes, ClusterInformations, LoadBalancingAlgorithms, RequestHttpFrontend,
    RequestTcpFrontend, RequestUdpFrontend, WorkerResponses,
};

use super::super::frontend::path_text;
use super::super::table::Table;
use super::super::values::{address_text, tags_text};
use super::settings::settings;

/// Shows what `main` and each worker answered to a question about clusters.
pub(in super::super) fn render(responses: &WorkerResponses, width: Option<usize>) -> String {
    let mut hashes = Vec::new();
    let mut informations = Vec::new();
    for (who, content) in in_order(responses) {
        match content {
            Some(ContentType::ClusterHashes(content)) => hashes.push((who, content)),
            Some(ContentType::Clusters(content)) => informations.push((who, content)),
            _ => {}
        }
    }
    if informations.is_empty() { render_hashes(&hashes, width) } else { render_full(&informations, width) }
}

/// `main` first, then the workers by number.
fn in_order(responses: &WorkerResponses) -> Vec<(&str, Option<&ContentType>)> {
    let mut answers: Vec<_> =
        responses.map.iter().map(|(who, content)| (who.as_str(), content.content_type.as_ref())).collect();
    answers.sort_by_key(|(who, _)| (*who != "main", who.parse::<u64>().unwrap_or(u64::MAX)));
    answers
}

fn title(who: &str) -> String {
    if who == "main" { who.to_owned() } else { format!("worker {who}") }
}

fn render_hashes(answers: &[(&str, &ClusterHashes)], width: Option<usize>) -> String {
    let ids: BTreeSet<&String> = answers.iter().flat_map(|(_, hashes)| hashes.map.keys()).collect();
    if ids.is_empty() {
        return "no cluster\n".to_owned();
    }
    let mut head = vec!["cluster id".to_owned()];
    head.extend(answers.iter().map(|(who, _)| title(who)));
    head.push("desynchronized".to_owned());
    let mut table = Table::new(head);
    for id in ids {
        let hashes: Vec<Option<&u64>> = answers.iter().map(|(_, hashes)| hashes.map.get(id)).collect();
        let mut row = vec![id.clone()];
        row.extend(hashes.iter().map(|hash| hash.map_or(String::new(), |hash| format!("{hash:016x}"))));
        row.push(if hashes.windows(2).all(|pair| pair[0] == pair[1]) { "" } else { "X" }.to_owned());
        table.row(row);
    }
    table.render(width)
}

fn render_full(answers: &[(&str, &ClusterInformations)], width: Option<usize>) -> String {
    if answers.iter().all(|(_, clusters)| clusters.vec.is_empty()) {
        return "no cluster found\n".to_owned();
    }
    let mut sections = [
        Section::new("Clusters", &["cluster id", "load balancing", "sticky session", "https redirect"]),
        Section::new("Settings", &["cluster id", "setting", "value"]),
        Section::new("HTTP frontends", HTTP_HEAD),
        Section::new("HTTPS frontends", HTTP_HEAD),
        Section::new("TCP frontends", &["cluster id", "address", "sni", "alpn", "tags"]),
        Section::new("UDP frontends", &["cluster id", "address", "tags"]),
        Section::new(
            "Backends",
            &["cluster id", "backend id", "address", "weight", "backup", "sticky id", "draining"],
        ),
    ];
    for (column, (_, clusters)) in answers.iter().enumerate() {
        let [configurations, set, http, https, tcp, udp, backends] = &mut sections;
        for cluster in &clusters.vec {
            if let Some(cluster) = &cluster.configuration {
                configurations.hold(cluster_row(cluster), column);
                settings(cluster).into_iter().for_each(|(name, value)| {
                    set.hold(vec![cluster.cluster_id.clone(), name.to_owned(), value], column);
                });
            }
            cluster.http_frontends.iter().for_each(|front| http.hold(http_row(front), column));
            cluster.https_frontends.iter().for_each(|front| https.hold(http_row(front), column));
            cluster.tcp_frontends.iter().for_each(|front| tcp.hold(tcp_row(front), column));
            cluster.udp_frontends.iter().for_each(|front| udp.hold(udp_row(front), column));
            cluster.backends.iter().for_each(|backend| backends.hold(backend_row(backend), column));
        }
    }
    let columns: Vec<String> = answers.iter().map(|(who, _)| title(who)).collect();
    sections.iter().map(|section| section.render(&columns, width)).collect()
}

/// Of a backend whose weight is not set.
const WEIGHT_DEFAULT: i32 = 100;

const HTTP_HEAD: &[&str] = &["cluster id", "address", "hostname", "path", "method", "tags"];

/// One table: rows, and which of the processes asked hold each.
struct Section {
    title: &'static str,
    head: &'static [&'static str],
    rows: BTreeMap<Vec<String>, BTreeSet<usize>>,
}

impl Section {
    fn new(title: &'static str, head: &'static [&'static str]) -> Self {
        Self { title, head, rows: BTreeMap::new() }
    }

    fn hold(&mut self, row: Vec<String>, column: usize) {
        self.rows.entry(row).or_default().insert(column);
    }

    fn render(&self, columns: &[String], width: Option<usize>) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let head = self.head.iter().map(ToString::to_string).chain(columns.iter().cloned());
        let mut table = Table::new(head);
        for (row, holders) in &self.rows {
            let marks = (0..columns.len()).map(|column| if holders.contains(&column) { "X" } else { "" });
            table.row(row.iter().cloned().chain(marks.map(str::to_owned)));
        }
        format!("{}\n{}", self.title, table.render(width))
    }
}

fn cluster_row(cluster: &Cluster) -> Vec<String> {
    let policy = LoadBalancingAlgorithms::try_from(cluster.load_balancing)
        .map_or("UNKNOWN", |policy| policy.as_str_name());
    vec![
        cluster.cluster_id.clone(),
        policy.to_owned(),
        cluster.sticky_session.to_string(),
        cluster.https_redirect.to_string(),
    ]
}

fn http_row(front: &RequestHttpFrontend) -> Vec<String> {
    vec![
        front.cluster_id.clone().unwrap_or_default(),
        address_text(&front.address),
        front.hostname.clone(),
        path_text(&front.path),
        front.method.clone().unwrap_or_default(),
        tags_text(&front.tags),
    ]
}

fn tcp_row(front: &RequestTcpFrontend) -> Vec<String> {
    vec![
        front.cluster_id.clone(),
        address_text(&front.address),
        front.sni.clone().unwrap_or_default(),
        front.alpn.join(", "),
        tags_text(&front.tags),
    ]
}

fn udp_row(front: &RequestUdpFrontend) -> Vec<String> {
    vec![front.cluster_id.clone(), address_text(&front.address), tags_text(&front.tags)]
}

fn backend_row(backend: &AddBackend) -> Vec<String> {
    // What counts: command lines send 0 for "not set".
    let weight = backend.load_balancing_parameters.as_ref().map_or(0, |parameters| parameters.weight);
    let weight = if weight == 0 { WEIGHT_DEFAULT } else { weight };
    vec![
        backend.cluster_id.clone(),
        backend.backend_id.clone(),
        backend.unix_path.clone().unwrap_or_else(|| address_text(&backend.address)),
        weight.to_string(),
        backend.backup.unwrap_or_default().to_string(),
        backend.sticky_id.clone().unwrap_or_default(),
        if backend.draining() { "yes" } else { "" }.to_owned(),
    ]
}

/// Access-log tags of a cluster's frontends: every value that some frontend gives to a key.
#[derive(serde::Serialize, Debug)]
pub(super) struct Tags {
    cluster_id: String,
    frontend_count: usize,
    tags: BTreeMap<String, BTreeSet<String>>,
}

impl Tags {
    /// Gathers them from a list of the cluster's frontends.
    pub(super) fn gather(cluster_id: String, content: Option<&ContentType>) -> Self {
        let mut gathered = Self { cluster_id, frontend_count: 0, tags: BTreeMap::new() };
        let Some(ContentType::FrontendList(list)) = content else { return gathered };
        let http = list.http_frontends.iter().chain(&list.https_frontends).map(|front| &front.tags);
        let tcp = list.tcp_frontends.iter().map(|front| &front.tags);
        let udp = list.udp_frontends.iter().map(|front| &front.tags);
        for tags in http.chain(tcp).chain(udp) {
            gathered.frontend_count += 1;
            for (key, value) in tags {
                gathered.tags.entry(key.clone()).or_default().insert(value.clone());
            }
        }
        gathered
    }

    /// One row for each key.
    pub(super) fn render(&self, width: Option<usize>) -> String {
        let Self { cluster_id, frontend_count, tags } = self;
        let frontends = if *frontend_count == 1 { "frontend" } else { "frontends" };
        let mut table = Table::new(["tag", "values"]);
        for (key, values) in tags {
            table.row([key.clone(), values.iter().cloned().collect::<Vec<_>>().join(", ")]);
        }
        let table = if table.is_empty() { "no tags\n".to_owned() } else { table.render(width) };
        format!("cluster {cluster_id}, {frontend_count} {frontends}\n{table}")
    }
}
