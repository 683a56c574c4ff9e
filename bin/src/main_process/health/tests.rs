//! What main decides about the health of backends, without processes.

use kakehi_command::order::Order;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{
    AddBackend, Cluster as WireCluster, HealthCheckConfig, PassiveHealth as WirePassive,
};

use super::*;

fn state(backends: u16) -> ConfigState {
    let mut state = ConfigState::default();
    let cluster = WireCluster {
        cluster_id: "app".into(),
        health_check: Some(HealthCheckConfig { uri: "/".into(), ..Default::default() }),
        passive_health: Some(WirePassive {
            consecutive_failures: 3,
            base_ejection: 10,
            max_ejection: 60,
            max_ejected_percent: 50,
            count_server_errors: true,
        }),
        ..Default::default()
    };
    let mut orders = vec![RequestType::AddCluster(cluster)];
    orders.extend((1..=backends).map(|n| {
        RequestType::AddBackend(AddBackend {
            cluster_id: "app".into(),
            backend_id: format!("b{n}"),
            address: std::net::SocketAddr::from(([127, 0, 0, 1], n)).into(),
            ..Default::default()
        })
    }));
    for order in orders {
        state.apply(&Order::from_request(&order.into()).expect("an order")).expect("it fits");
    }
    state
}

fn keys(state: &ConfigState) -> Vec<BackendKey> {
    state.backends("app").map(|backend| backend.key()).collect()
}

#[expect(clippy::disallowed_methods, reason = "any instant serves as the first")]
fn start() -> Instant {
    Instant::now()
}

fn note(health: &mut Health, key: &BackendKey, edit: impl FnOnce(&mut Known)) {
    edit(health.known.entry(key.cluster_id.clone()).or_default().entry(key.clone()).or_default());
}

#[test]
fn ejections_grow_and_only_so_many_are_out_at_a_time() {
    let (state, now) = (state(4), start());
    let passive = *state.cluster("app").and_then(|it| it.passive_health()).expect("configured");
    let keys = keys(&state);
    let mut health = Health::default();
    let seconds = |health: &Health, key, now| {
        health.ejection(&state, &passive, key, now, 0).map(|(length, _)| length.as_secs())
    };
    assert_eq!(seconds(&health, &keys[0], now), Some(10));
    let (longest, _) = health.ejection(&state, &passive, &keys[0], now, u64::MAX).expect("it may be out");
    assert_eq!(longest.as_secs(), 11, "a tenth longer at most");
    note(&mut health, &keys[0], |known| (known.ejections, known.back_since) = (2, Some(now)));
    assert_eq!(seconds(&health, &keys[0], now), Some(40), "twice as long each time");
    note(&mut health, &keys[0], |known| known.ejections = 9);
    assert_eq!(seconds(&health, &keys[0], now), Some(60), "bounded");
    let later = now + Duration::from_secs(61);
    assert_eq!(seconds(&health, &keys[0], later), Some(10), "long ago is forgotten");
    for key in &keys[..2] {
        note(&mut health, key, |known| known.ejected_until = Some(later));
    }
    assert_eq!(seconds(&health, &keys[2], now), None, "half of them are out");
}

#[test]
fn a_lone_backend_may_be_ejected() {
    let (state, now) = (state(1), start());
    let passive = *state.cluster("app").and_then(|it| it.passive_health()).expect("configured");
    let key = &keys(&state)[0];
    assert!(Health::default().ejection(&state, &passive, key, now, 0).is_some());
}

#[test]
fn what_is_known_goes_with_what_it_is_about() {
    let mut state = state(2);
    let keys = keys(&state);
    let mut health = Health::default();
    for key in &keys {
        note(&mut health, key, |known| known.unhealthy = Some("answered by 500".into()));
    }
    let app = keys[0].cluster_id.clone();
    assert!(health.is_stranded(&state, &app));
    let messages = health.behind_state();
    let [to_worker::Message::Verdicts(told)] = messages.as_slice() else { panic!("one message") };
    assert_eq!(told.verdicts.len(), 2);
    assert!(told.verdicts.iter().all(|verdict| !verdict.good && verdict.subject() == Subject::Probes));
    let removed = Order::RemoveBackend(keys[0].clone());
    state.apply(&removed).expect("it is there");
    health.prune(&state);
    assert_eq!(health.known[&app].len(), 1);
    assert!(health.is_stranded(&state, &app), "the other one is out as well");
    let list = health.list(&state, None, start());
    assert_eq!((list.map.len(), list.backends.len()), (1, 1));
    assert_eq!(list.backends[0].reason.as_deref(), Some("answered by 500"));
    state.apply(&Order::RemoveHealthCheck(app.clone())).expect("it is there");
    health.prune(&state);
    assert!(health.known.is_empty() && health.behind_state().is_empty());
    assert!(!health.is_stranded(&state, &app));
}

#[test]
fn values_are_kept_as_long_as_a_check_names_them() {
    let fingerprint = kakehi_command::order::fingerprint_text(&[1; 16], &[2; 32]);
    let mut state = state(1);
    let check = kakehi_command::order::HealthCheck::from_wire(HealthCheckConfig {
        uri: "/".into(),
        headers: vec![kakehi_command::proto::HealthCheckHeader {
            name: "X-Key".into(),
            fingerprint: fingerprint.clone(),
        }],
        ..Default::default()
    })
    .expect("a check");
    let app = keys(&state)[0].cluster_id.clone();
    let order = Order::SetHealthCheck { cluster: app.clone(), check: check.into() };
    state.apply(&order).expect("the cluster is there");
    let mut health = Health::default();
    assert!(health.list(&state, None, start()).backends[0].missing_secret);
    let secret = ProbeSecret { fingerprint, value: b"hush".to_vec() };
    health.keep_secrets(vec![(app.clone(), secret)]);
    health.prune(&state);
    assert!(!health.misses_secret(state.cluster("app").expect("it is there")));
    assert_eq!(health.before_state().count(), 1);
    assert!(!format!("{health:?}").contains("hush"), "values are not shown");
    state.apply(&Order::RemoveHealthCheck(app)).expect("it is there");
    health.prune(&state);
    assert_eq!(health.before_state().count(), 0);
}
