//! Orders on their way to one worker: turned into wire batches one at a time, as its channel drains, so
//! that a state of any size needs no more memory than a few batches per worker.

use std::rc::Rc;

use kakehi_command::order::Order;
use kakehi_command::proto::supervision::Batch;
use prost::Message;

/// A batch is closed when its requests reach this many bytes. Large enough to make frames rare, small
/// enough for a worker to answer between two of them.
const BATCH_BYTES: usize = 64 * 1024;

/// One revision for one worker. The orders are shared by all workers that are fed the same.
#[derive(Debug)]
pub(super) struct Feed {
    orders: Rc<[Order]>,
    next: usize,
    revision: u64,
    /// The batch marked as the last one was taken.
    finished: bool,
}

impl Feed {
    /// Everything that leads to `revision`. Without orders it is one empty batch: the revision itself
    /// is news.
    pub(super) fn new(orders: Rc<[Order]>, revision: u64) -> Self {
        Self { orders, next: 0, revision, finished: false }
    }

    /// The next batch; `None` once the last one was taken.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        if self.finished {
            return None;
        }
        let mut batch = Batch { revision: self.revision, requests: Vec::new(), last: false };
        let mut bytes = 0;
        while bytes < BATCH_BYTES
            && let Some(order) = self.orders.get(self.next)
        {
            let request = order.to_request();
            bytes += request.encoded_len();
            batch.requests.push(request);
            self.next += 1;
        }
        self.finished = self.next == self.orders.len();
        batch.last = self.finished;
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use kakehi_command::proto::request::RequestType;
    use kakehi_command::proto::{Cluster, Request};

    use super::*;

    fn orders(count: usize, id_bytes: usize) -> Rc<[Order]> {
        (0..count)
            .map(|index| {
                let cluster_id = format!("{index:0id_bytes$}");
                let cluster = Cluster { cluster_id, ..Default::default() };
                Order::from_request(&Request { request_type: Some(RequestType::AddCluster(cluster)) })
                    .unwrap()
            })
            .collect()
    }

    fn batches(orders: &Rc<[Order]>) -> Vec<Batch> {
        let mut feed = Feed::new(Rc::clone(orders), 5);
        std::iter::from_fn(|| feed.next_batch()).collect()
    }

    #[test]
    fn no_orders_are_one_empty_batch() {
        assert_eq!(batches(&orders(0, 1)), [Batch { revision: 5, requests: Vec::new(), last: true }]);
    }

    #[test]
    fn batches_are_bounded_and_hold_everything_in_order() {
        let orders = orders(3_000, 100);
        let batches = batches(&orders);
        assert!(batches.len() > 3, "{} batches", batches.len());
        assert!(batches.iter().all(|batch| batch.encoded_len() < 2 * BATCH_BYTES && batch.revision == 5));
        let lasts: Vec<bool> = batches.iter().map(|batch| batch.last).collect();
        assert_eq!(lasts.iter().filter(|last| **last).count(), 1);
        assert_eq!(lasts.last(), Some(&true));
        let requests: Vec<Request> = batches.into_iter().flat_map(|batch| batch.requests).collect();
        let expected: Vec<Request> = orders.iter().map(Order::to_request).collect();
        assert_eq!(requests, expected);
    }
}
