//! Drives a proxy by Sōzu's published command library, as any controller written on it does: every answer is checked.
//!
//! Arguments: the command socket, the address of an active HTTP listener, the address of a backend. What it configures
//! (host `lib.test`) stays, so that traffic can be tried. Exit status 0: all went as the library promises.

use std::net::SocketAddr;
use std::time::Duration;

use sozu_command_lib::channel::Channel;
use sozu_command_lib::proto::command::request::RequestType;
use sozu_command_lib::proto::command::response_content::ContentType;
use sozu_command_lib::proto::command::{
    AddBackend, Cluster, CountRequests, EventKind, FrontendFilters, ListListeners, ListWorkers,
    LoadBalancingParams, PathRule, QueryClustersHashes, QueryMetricsOptions, RemoveBackend, Request,
    RequestHttpFrontend, Response, ResponseStatus, RulePosition, Status, SubscribeEvents,
};

const WAIT_MAX: Duration = Duration::from_secs(10);

struct Client(Channel<Request, Response>);

impl Client {
    fn connect(socket: &str) -> Self {
        let mut channel = Channel::from_path(socket, 1_000_000, 2_000_000).expect("it connects");
        channel.blocking().expect("it can wait");
        Self(channel)
    }

    fn send(&mut self, request: RequestType) {
        self.0.write_message(&Request { request_type: Some(request) }).expect("it is sent");
    }

    fn receive(&mut self) -> Response {
        self.0.read_message_blocking_timeout(Some(WAIT_MAX)).expect("an answer in time")
    }

    fn ask(&mut self, request: RequestType) -> Response {
        self.send(request);
        loop {
            let response = self.receive();
            if response.status != ResponseStatus::Processing as i32 {
                return response;
            }
        }
    }

    fn ok(&mut self, request: RequestType) -> Option<ContentType> {
        let shown = format!("{request:?}");
        let response = self.ask(request);
        assert_eq!(response.status, ResponseStatus::Ok as i32, "{shown}: {}", response.message);
        response.content.and_then(|content| content.content_type)
    }

    fn refused(&mut self, request: RequestType) {
        let shown = format!("{request:?}");
        let response = self.ask(request);
        assert_eq!(response.status, ResponseStatus::Failure as i32, "{shown}");
        assert!(!response.message.is_empty(), "{shown}: no reason");
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("SOCKET LISTENER BACKEND");
    let socket = next();
    let listener: SocketAddr = next().parse().expect("an address");
    let backend: SocketAddr = next().parse().expect("an address");
    let mut client = Client::connect(&socket);

    let Some(ContentType::Workers(workers)) = client.ok(RequestType::ListWorkers(ListWorkers {})) else {
        panic!("no workers")
    };
    assert!(!workers.vec.is_empty());
    let Some(ContentType::Workers(status)) = client.ok(RequestType::Status(Status {})) else { panic!("no status") };
    assert_eq!(status.vec.len(), workers.vec.len());
    assert!(status.vec.iter().all(|worker| worker.run_state == 0 && worker.pid > 0), "{status:?}");
    let Some(ContentType::ListenersList(list)) = client.ok(RequestType::ListListeners(ListListeners {})) else {
        panic!("no listeners")
    };
    assert!(list.http_listeners[&listener.to_string()].active);

    let mut events = Client::connect(&socket);
    events.send(RequestType::SubscribeEvents(SubscribeEvents {}));
    let mut heard = |kind: EventKind, cluster: Option<&str>| loop {
        let response = events.receive();
        assert_eq!(response.status, ResponseStatus::Processing as i32);
        let content = response.content.and_then(|content| content.content_type);
        let Some(ContentType::Event(event)) = content else { panic!("no event") };
        if event.kind == kind as i32 && event.cluster_id.as_deref() == cluster {
            break;
        }
    };
    heard(EventKind::EventsSubscribed, None);

    let cluster = |id: &str| Cluster { cluster_id: id.to_owned(), ..Default::default() };
    client.ok(RequestType::AddCluster(cluster("lib")));
    heard(EventKind::ClusterAdded, Some("lib"));
    let added = AddBackend {
        cluster_id: "lib".to_owned(),
        backend_id: "lib-0".to_owned(),
        address: backend.into(),
        load_balancing_parameters: Some(LoadBalancingParams { weight: 50 }),
        ..Default::default()
    };
    client.ok(RequestType::AddBackend(added.clone()));
    let frontend = RequestHttpFrontend {
        cluster_id: Some("lib".to_owned()),
        address: listener.into(),
        hostname: "lib.test".to_owned(),
        path: PathRule { kind: 0, value: "/".to_owned() },
        position: RulePosition::Tree as i32,
        ..Default::default()
    };
    client.ok(RequestType::AddHttpFrontend(frontend.clone()));
    heard(EventKind::FrontendAdded, Some("lib"));
    client.refused(RequestType::AddHttpFrontend(frontend.clone()));
    client.refused(RequestType::RemoveCluster("missing".to_owned()));

    let filters = FrontendFilters { domain: Some("lib.t".to_owned()), ..Default::default() };
    let Some(ContentType::FrontendList(list)) = client.ok(RequestType::ListFrontends(filters)) else {
        panic!("no frontends")
    };
    assert_eq!(list.http_frontends, [frontend]);
    let processes = workers.vec.len() + 1;
    let Some(ContentType::WorkerResponses(views)) = client.ok(RequestType::QueryClusterById("lib".to_owned())) else {
        panic!("no views")
    };
    assert_eq!(views.map.len(), processes);
    for (process, view) in &views.map {
        let Some(ContentType::Clusters(clusters)) = &view.content_type else { panic!("{process}: no clusters") };
        assert_eq!(clusters.vec[0].backends, [added.clone()], "{process}");
    }
    let Some(ContentType::WorkerResponses(hashes)) = client.ok(RequestType::QueryClustersHashes(QueryClustersHashes {}))
    else {
        panic!("no hashes")
    };
    assert_eq!(hashes.map.len(), processes);
    assert!(hashes.map.values().all(|view| *view == hashes.map["main"]), "they disagree: {hashes:?}");

    // One more that comes and goes.
    client.ok(RequestType::AddCluster(cluster("gone")));
    client.ok(RequestType::AddBackend(AddBackend { cluster_id: "gone".to_owned(), ..added }));
    client.ok(RequestType::RemoveBackend(RemoveBackend {
        cluster_id: "gone".to_owned(),
        backend_id: "lib-0".to_owned(),
        address: backend.into(),
    }));
    client.ok(RequestType::RemoveCluster("gone".to_owned()));
    heard(EventKind::ClusterRemoved, Some("gone"));

    let names = QueryMetricsOptions { list: true, ..Default::default() };
    let Some(ContentType::AvailableMetrics(names)) = client.ok(RequestType::QueryMetrics(names)) else {
        panic!("no names")
    };
    assert!(names.proxy_metrics.iter().any(|name| name == "client.connections"), "{names:?}");
    let Some(ContentType::Metrics(metrics)) = client.ok(RequestType::QueryMetrics(QueryMetricsOptions::default()))
    else {
        panic!("no metrics")
    };
    assert!(metrics.proxying.contains_key("client.connections"));
    let Some(ContentType::RequestCounts(counts)) = client.ok(RequestType::CountRequests(CountRequests {})) else {
        panic!("no counts")
    };
    assert!(counts.map["AddCluster"] >= 2, "{counts:?}");
    println!("all is well");
}
