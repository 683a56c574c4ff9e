//! Which backend a client gets: by its cookie, by a hash, and when its backend is gone.

use std::collections::BTreeSet;

use kakehi_e2e::http::{Backend, Client, Response};
use kakehi_e2e::{Proxy, requests};

const HOST: &str = "app.test";
const FRONTEND: &str = "hostname = \"app.test\", path = \"/\"";

fn ask(client: &mut Client, fields: &str) -> Response {
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n"));
    client.response("GET")
}

fn backends() -> [Backend; 3] {
    ["0", "1", "2"].map(Backend::named)
}

fn proxy(settings: &str, backends: &[Backend]) -> Proxy {
    let addresses: Vec<_> = backends.iter().map(Backend::address).collect();
    Proxy::builder().cluster_with("app", settings, &[FRONTEND], &addresses).start()
}

#[test]
fn a_cookie_keeps_a_client_at_its_backend_while_that_lasts() {
    let backends = backends();
    let proxy = proxy("sticky_session = true\nsticky_http_only = true\n", &backends);
    let mut client = Client::connect(proxy.address());
    let first = ask(&mut client, "");
    let set = first.field("Set-Cookie").expect("the client is told").to_owned();
    let (cookie, attributes) = set.split_once(';').expect("it has attributes");
    assert_eq!(attributes, " Path=/; HttpOnly");
    assert!(cookie.starts_with("SOZUBALANCEID=app-"), "{cookie}");
    let home: usize = first.text().parse().expect("its number");
    let _ = backends[home].next_request();

    for _ in 0..6 {
        let again = ask(&mut client, &format!("Cookie: a=1; {cookie}; b=2\r\n"));
        assert_eq!((again.text(), again.field("Set-Cookie")), (first.text(), None));
        let seen = backends[home].next_request();
        assert_eq!(seen.fields.get("Cookie"), Some("a=1; b=2"), "ours is taken out");
    }
    let alone = ask(&mut client, &format!("Cookie: {cookie}\r\n"));
    assert_eq!(alone.text(), first.text());
    assert_eq!(backends[home].next_request().fields.get("Cookie"), None);

    let id = cookie.split_once('=').expect("a name").1;
    proxy.command().ok(requests::remove_backend("app", id, backends[home].address()));
    let mut other = Client::connect(proxy.address());
    let moved = ask(&mut other, &format!("Cookie: {cookie}\r\n"));
    assert_eq!(moved.status(), 200);
    assert_ne!(moved.text(), first.text());
    assert!(moved.field("Set-Cookie").is_some_and(|set| !set.starts_with(cookie)));
}

#[test]
fn hashing_goes_by_the_header_in_every_worker() {
    for algorithm in ["HRW", "MAGLEV"] {
        let backends = backends();
        let settings = format!("load_balancing = \"{algorithm}\"\naffinity_header = \"X-User\"\n");
        let proxy = proxy(&settings, &backends);
        let mut used = BTreeSet::new();
        for user in 0..20 {
            let homes: BTreeSet<String> = (0..6)
                .map(|_| ask(&mut Client::connect(proxy.address()), &format!("X-User: {user}\r\n")).text())
                .collect();
            assert_eq!(homes.len(), 1, "{algorithm}: {homes:?}");
            used.extend(homes);
        }
        assert!(used.len() > 1, "{algorithm}");
    }
}
