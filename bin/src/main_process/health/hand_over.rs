//! What is known of the health of backends, for the next program of this process.

use std::net::SocketAddr;
use std::time::Instant;

use kakehi_command::order::{BackendKey, ClusterId};
use kakehi_command::proto::hand_over as wire;
use kakehi_command::proto::supervision::ProbeSecrets;
use kakehi_command::state::ConfigState;

use super::super::gather::WorkerId;
use super::super::hand_over::{ago, in_ms, ms_between};
use super::{Counts, Health, Known};

impl Health {
    /// For the next program of this process.
    pub(in super::super) fn left(&self, now: Instant) -> wire::Health {
        let known = self.known.values().flatten().map(|(key, known)| wire::Known {
            cluster_id: key.cluster_id.to_string(),
            backend_id: key.backend_id.to_string(),
            address: key.address.into(),
            unhealthy: known.unhealthy.clone(),
            ejected_for_ms: known.ejected_until.map(|at| ms_between(now, at)),
            ejections: known.ejections,
            back_since_ms: known.back_since.map(|at| ms_between(at, now)),
            unreachable_from: known.unreachable.iter().map(|worker| worker.0).collect(),
        });
        let secrets = self.secrets.iter().map(|(id, secrets)| ProbeSecrets {
            cluster_id: id.to_string(),
            secrets: secrets.values().cloned().collect(),
        });
        wire::Health {
            known: known.collect(),
            secrets: secrets.collect(),
            stranded: self.stranded.iter().map(ToString::to_string).collect(),
            probers: self.probers.clone(),
            times_stranded: self.counts.stranded,
            times_recovered: self.counts.recovered,
            times_ejected: self.counts.ejected,
            times_not_ejected: self.counts.not_ejected,
        }
    }

    /// What the program has left which this process ran before.
    pub(in super::super) fn take_over(
        &mut self,
        left: &wire::Health,
        state: &ConfigState,
        revision: u64,
        now: Instant,
    ) {
        for it in &left.known {
            let Ok(address) = SocketAddr::try_from(&it.address) else { continue };
            let cluster_id = ClusterId::from(it.cluster_id.as_str());
            let key = BackendKey { cluster_id, backend_id: it.backend_id.as_str().into(), address };
            if state.backend(&key).is_none() {
                continue;
            }
            let ejected_until = it.ejected_for_ms.map(|ms| in_ms(now, ms));
            self.ejections.extend(ejected_until.map(|at| (at, key.clone())));
            let known = Known {
                unhealthy: it.unhealthy.clone(),
                ejected_until,
                ejections: it.ejections,
                back_since: it.back_since_ms.map(|ms| ago(now, ms)),
                unreachable: it.unreachable_from.iter().copied().map(WorkerId).collect(),
            };
            self.known.entry(key.cluster_id.clone()).or_default().insert(key, known);
        }
        for ProbeSecrets { cluster_id, secrets } in &left.secrets {
            let kept = self.secrets.entry(ClusterId::from(cluster_id.as_str())).or_default();
            kept.extend(secrets.iter().map(|secret| (secret.fingerprint.clone(), secret.clone())));
        }
        self.stranded = left.stranded.iter().map(|id| ClusterId::from(id.as_str())).collect();
        self.probers.clone_from(&left.probers);
        self.pruned_for = revision;
        self.counts = Counts {
            stranded: left.times_stranded,
            recovered: left.times_recovered,
            ejected: left.times_ejected,
            not_ejected: left.times_not_ejected,
        };
    }
}
