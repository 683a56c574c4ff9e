//! Health checks, and values of their secret headers.

use zeroize::Zeroizing;

use super::*;

/// `key` has a value, `broken` one that no header can have; no other file is there.
pub(super) fn read_secret(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    match path.to_str() {
        Some("key") => Ok(Zeroizing::new(b"hush".to_vec())),
        Some("broken") => Ok(Zeroizing::new(b"a\nb".to_vec())),
        _ => Err(io::Error::other("no such file")),
    }
}

fn config(keys: &str) -> Config {
    parse_text(&app_cluster(keys), &file()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn cluster(config: &Config) -> &crate::order::Cluster {
    let found = config.orders.iter().find_map(|order| match order {
        Order::AddCluster(cluster) => Some(cluster),
        _ => None,
    });
    found.expect("the file has a cluster")
}

fn refused(keys: &str, expected: &str) {
    let errors = parse_text(&app_cluster(keys), &file()).expect_err("refused").to_string();
    assert!(errors.contains(expected), "{errors}");
}

#[test]
fn a_check_has_defaults_and_what_the_file_says() {
    let plain = config("health_check = {}");
    let check = cluster(&plain).health_check().expect("it has one");
    assert_eq!(check.wire(), &proto::HealthCheckConfig { uri: "/".into(), ..Default::default() });
    let full = config(
        "health_check = { mode = \"HTTP\", uri = \"/up\", interval = 7, timeout = 2, healthy_threshold = 4, \
         unhealthy_threshold = 5, accepted_statuses = [\"2xx\", \"404\"], port = 81, host = \"a.b\", \
         jitter_percent = 0 }\npanic_threshold = 0\nretry_budget_percent = 20\n\
         passive_health = { consecutive_failures = 2 }",
    );
    let cluster = cluster(&full);
    let check = cluster.health_check().expect("it has one");
    assert_eq!((check.interval().as_secs(), check.timeout().as_secs()), (7, 2));
    assert_eq!((check.healthy_threshold(), check.unhealthy_threshold()), (4, 5));
    assert!(check.accepts(404) && check.accepts(250) && !check.accepts(301));
    assert_eq!((check.wire().port, check.wire().host.as_deref()), (Some(81), Some("a.b")));
    assert_eq!(check.jitter_percent(), 0);
    assert_eq!((cluster.panic_threshold(), cluster.retry_budget_percent()), (Some(0), Some(20)));
    let passive = cluster.passive_health().expect("it has one");
    assert_eq!((passive.consecutive_failures().get(), passive.base_ejection().as_secs()), (2, 30));
    assert_eq!((passive.max_ejected_percent(), passive.count_server_errors()), (10, true));
}

#[test]
fn what_is_wrong_is_told_at_its_key() {
    refused("health_check = { uri = \"up\" }", "clusters.app.health_check.uri: `up` does not begin with /");
    refused(
        "health_check = { accepted_statuses = [\"6xx\"] }",
        "clusters.app.health_check.accepted_statuses: \"6xx\" is none of",
    );
    refused("passive_health = { max_ejection = 1 }", "clusters.app.passive_health.max_ejection: `1` is less");
    let header = |name: &str, path: &str| {
        format!("health_check = {{ headers = [{{ name = \"{name}\", value_file = \"{path}\" }}] }}")
    };
    refused(&header("X-Key", "nowhere"), "nowhere: no such file");
    refused(&header("X-Key", "broken"), "a value that no header can have");
    refused(&header("Host", "key"), "a header that probes have of their own");
}

#[test]
fn values_are_beside_the_orders_and_not_in_them() {
    let keys = "health_check = { headers = [{ name = \"X-Key\", value_file = \"key\" }] }";
    let (one, other) = (config(keys), config(keys));
    assert_eq!(one.orders, other.orders, "the same value is no change");
    let [(id, secret)] = one.probe_secrets.as_slice() else { panic!("one value") };
    assert_eq!((&**id, secret.value.as_slice()), ("app", &b"hush"[..]));
    let check = cluster(&one).health_check().expect("it has one");
    let named: Vec<_> = check.secret_headers().collect();
    assert_eq!(named, [("X-Key", secret.fingerprint.as_str())]);
    assert!(!format!("{one:?}").contains("hush"));
}
