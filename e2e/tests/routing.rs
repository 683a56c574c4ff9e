//! Which cluster a request reaches, and how its backends share the work.

use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{PathRuleKind, RequestHttpFrontend, RulePosition};
use kakehi_e2e::deadline::await_true;
use kakehi_e2e::http::{Backend, Client, get};
use kakehi_e2e::{Proxy, requests};

/// A proxy whose clusters answer with their own names.
struct Fixture {
    proxy: Proxy,
    backends: Vec<Backend>,
}

impl Fixture {
    fn new() -> Self {
        Fixture { proxy: Proxy::builder().workers(1).start(), backends: Vec::new() }
    }

    /// Adds a cluster that answers `name`, and a frontend to it.
    fn route(&mut self, name: &'static str, host: &str, edit: impl FnOnce(&mut RequestHttpFrontend)) {
        let backend = Backend::named(name);
        let mut command = self.proxy.command();
        command.ok(requests::add_cluster(name));
        command.ok(requests::add_backend(name, "b", backend.address()));
        let mut frontend = requests::frontend(name, self.proxy.address(), host, "");
        edit(&mut frontend);
        command.ok(RequestType::AddHttpFrontend(frontend));
        self.backends.push(backend);
    }

    fn check(&self, host: &str, path: &str, expected: &str) {
        let response = get(self.proxy.address(), host, path);
        let reached = if response.status() == 200 { response.text() } else { response.status().to_string() };
        assert_eq!(reached, expected, "{host} {path}");
    }
}

fn path(kind: PathRuleKind, value: &str) -> impl FnOnce(&mut RequestHttpFrontend) {
    let value = value.to_owned();
    move |frontend| {
        frontend.path.kind = kind.into();
        frontend.path.value = value;
    }
}

#[test]
fn most_specific_host_wins() {
    let mut fixture = Fixture::new();
    fixture.route("wildcard", "*.test.example", |_| ());
    fixture.route("exact", "a.test.example", |_| ());
    fixture.route("regex", "/r[0-9]+/.regex.example", |_| ());
    fixture.check("a.test.example", "/", "exact");
    fixture.check("A.Test.EXAMPLE", "/", "exact");
    fixture.check("a.test.example:8080", "/", "exact");
    fixture.check("b.test.example", "/", "wildcard");
    fixture.check("a.b.test.example", "/", "404");
    fixture.check("test.example", "/", "404");
    fixture.check("r42.regex.example", "/", "regex");
    fixture.check("rx.regex.example", "/", "404");
    fixture.check("other.example", "/", "404");
}

#[test]
fn most_specific_path_wins_in_any_order_of_insertion() {
    let mut fixture = Fixture::new();
    fixture.route("api", "a.test", path(PathRuleKind::Prefix, "/api"));
    fixture.route("root", "a.test", path(PathRuleKind::Prefix, "/"));
    fixture.route("v1", "a.test", path(PathRuleKind::Prefix, "/api/v1"));
    fixture.route("exact", "a.test", path(PathRuleKind::Equals, "/api/v1/exact"));
    fixture.check("a.test", "/", "root");
    fixture.check("a.test", "/api", "api");
    fixture.check("a.test", "/api/v2", "api");
    fixture.check("a.test", "/api/v1/x", "v1");
    fixture.check("a.test", "/api/v1/exact", "exact");
}

#[test]
fn regex_path_serves_what_no_plain_path_does() {
    let mut fixture = Fixture::new();
    fixture.route("regex", "a.test", path(PathRuleKind::Regex, "/item/[0-9]+"));
    fixture.route("api", "a.test", path(PathRuleKind::Prefix, "/api"));
    fixture.check("a.test", "/item/42", "regex");
    fixture.check("a.test", "/item/42/x", "404");
    fixture.check("a.test", "/item/", "404");
    fixture.check("a.test", "/api/item/42", "api");
}

#[test]
fn host_whose_paths_do_not_match_is_passed_over() {
    let mut fixture = Fixture::new();
    fixture.route("exact", "a.w.test", path(PathRuleKind::Prefix, "/only"));
    fixture.route("wildcard", "*.w.test", |_| ());
    fixture.check("a.w.test", "/only/this", "exact");
    fixture.check("a.w.test", "/other", "wildcard");
}

#[test]
fn method_is_part_of_the_rule() {
    let mut fixture = Fixture::new();
    fixture.route("any", "a.test", |_| ());
    fixture.route("post", "a.test", |frontend| frontend.method = Some("POST".into()));
    fixture.check("a.test", "/", "any");
    let mut client = Client::connect(fixture.proxy.address());
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response("POST").text(), "post");
}

#[test]
fn pre_comes_before_the_tree_and_post_after() {
    let mut fixture = Fixture::new();
    fixture.route("tree", "a.test", |_| ());
    fixture.route("pre", "a.test", |frontend| {
        frontend.position = RulePosition::Pre.into();
        frontend.path.value = "/pre".into();
    });
    fixture.route("post", "*", |frontend| frontend.position = RulePosition::Post.into());
    fixture.check("a.test", "/pre/x", "pre");
    fixture.check("a.test", "/x", "tree");
    fixture.check("anything.test", "/x", "post");
}

#[test]
fn round_robin_gives_each_backend_its_turn() {
    let backends = [Backend::named("0"), Backend::named("1"), Backend::named("2")];
    let addresses: Vec<_> = backends.iter().map(Backend::address).collect();
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &addresses).start();
    let mut client = Client::connect(proxy.address());
    for _ in 0..60 {
        assert_eq!(client.get("a.test", "/").status(), 200);
    }
    let served = || -> Vec<_> { backends.iter().map(Backend::served).collect() };
    // A backend counts after it has answered, which may be after the client has its answer.
    await_true("all are counted", || served().iter().sum::<usize>() == 60);
    assert_eq!(served(), [20, 20, 20]);
}

#[test]
fn weights_share_the_work_out() {
    let (light, heavy) = (Backend::named("light"), Backend::named("heavy"));
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[]).start();
    for (backend, id, weight) in [(&light, "light", 100), (&heavy, "heavy", 300)] {
        proxy.command().ok(RequestType::AddBackend(kakehi_command::proto::AddBackend {
            cluster_id: "a".into(),
            backend_id: id.into(),
            address: requests::wire_address(backend.address()),
            load_balancing_parameters: Some(kakehi_command::proto::LoadBalancingParams { weight }),
            ..Default::default()
        }));
    }
    let mut client = Client::connect(proxy.address());
    for _ in 0..40 {
        client.get("a.test", "/");
    }
    await_true("all are counted", || light.served() + heavy.served() == 40);
    assert_eq!((light.served(), heavy.served()), (10, 30));
}

#[test]
fn backup_serves_only_when_nobody_else_can() {
    let (primary, backup) = (Backend::named("primary"), Backend::named("backup"));
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[]).start();
    let mut command = proxy.command();
    command.ok(requests::add_backend("a", "primary", primary.address()));
    command.ok(RequestType::AddBackend(kakehi_command::proto::AddBackend {
        cluster_id: "a".into(),
        backend_id: "backup".into(),
        address: requests::wire_address(backup.address()),
        backup: Some(true),
        ..Default::default()
    }));
    for _ in 0..5 {
        assert_eq!(get(proxy.address(), "a.test", "/").text(), "primary");
    }
    command.ok(requests::remove_backend("a", "primary", primary.address()));
    assert_eq!(get(proxy.address(), "a.test", "/").text(), "backup");
}
