//! Work that all cores share, and whose results come in order, as if one core had done it.
//!
//! Invariants: the number of workers changes no result; and no worker runs ahead by more than [`AHEAD`] results, which bounds
//! the memory that they hold.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Results that each worker may have ready before they are wanted.
const AHEAD: usize = 2;

/// Most workers: each holds several megabytes.
const WORKERS_MAX: usize = 8;

/// As many workers as this machine has cores, within reason.
pub(crate) fn workers() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    cores.min(WORKERS_MAX)
}

/// Gives `consume` the results for the numbers from 0 to `count`, in order. Each worker makes its own state once, and with it
/// the results of every number that is its turn.
pub(crate) fn in_order<T: Send, W: FnMut(usize) -> T, R>(
    count: usize,
    workers: usize,
    worker: impl Fn() -> W + Sync,
    consume: impl FnOnce(InOrder<T>) -> R,
) -> R {
    let workers = workers.max(1);
    thread::scope(|scope| {
        let worker = &worker;
        let results = (0..workers).map(|first| {
            let (sender, receiver) = sync_channel(AHEAD);
            let numbers = (first..count).step_by(workers);
            scope.spawn(move || work(numbers, worker(), &sender));
            receiver
        });
        let results = InOrder {
            results: results.collect(),
            next: 0,
        };
        consume(results)
    })
}

/// Ends early when nobody wants the results any more.
fn work<T>(
    mut numbers: impl Iterator<Item = usize>,
    mut result: impl FnMut(usize) -> T,
    sender: &SyncSender<T>,
) {
    let _ = numbers.try_for_each(|number| sender.send(result(number)));
}

/// The results, in order.
pub(crate) struct InOrder<T> {
    results: Vec<Receiver<T>>,
    next: usize,
}

impl<T> Iterator for InOrder<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let result = self.results[self.next % self.results.len()].recv().ok()?;
        self.next += 1;
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whatever_the_number_of_workers_and_their_pace() {
        for workers in [0, 1, 2, 3, 7, 200] {
            let slow_at_three = |number: usize| {
                if number.is_multiple_of(3) {
                    thread::yield_now();
                }
                number * number
            };
            let got = in_order(100, workers, || slow_at_three, Iterator::collect::<Vec<_>>);
            let wanted: Vec<_> = (0..100).map(|number| number * number).collect();
            assert_eq!(got, wanted, "{workers} workers");
        }
    }

    #[test]
    fn workers_end_when_their_results_are_not_wanted() {
        let first = in_order(usize::MAX, 3, || |number| number, |mut all| all.next());
        assert_eq!(first, Some(0));
    }
}
