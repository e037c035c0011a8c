//! Work that all cores share, and whose results come in order, as if one core had done it.
//!
//! Invariants: the number of workers changes no result; and no worker begins what is wanted only after a bounded number of other
//! results, or of their bytes, which bounds the memory that they hold.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Results that each worker may have ready or be at work on before they are wanted, where they are large.
pub(crate) const FEW: usize = 3;

/// The same where they are small and some take far longer than others, so that nobody waits for those.
pub(crate) const MANY: usize = 24;

/// How far workers may run ahead of what is wanted.
pub(crate) struct Ahead<T> {
    /// Results that each of them may have ready or be at work on.
    pub(crate) results: usize,
    /// Bytes of those that are ready, for each of them.
    pub(crate) bytes: usize,
    /// The bytes that a result holds.
    pub(crate) held: fn(&T) -> usize,
}

/// Most workers: each holds several megabytes.
const WORKERS_MAX: usize = 8;

/// As many workers as this machine has cores, within reason.
pub(crate) fn workers() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    cores.min(WORKERS_MAX)
}

/// Gives `consume` the results for the numbers from 0 to `count`, in order. Each worker makes its own state once, and with it
/// the results of every number that it comes to; `ahead` of them may wait for each worker.
pub(crate) fn in_order<T: Send, W: FnMut(usize) -> T, R>(
    count: usize,
    workers: usize,
    ahead: usize,
    worker: impl Fn() -> W + Sync,
    consume: impl FnOnce(InOrder<'_, T>) -> R,
) -> R {
    let ahead = Ahead {
        results: ahead,
        bytes: usize::MAX,
        held: |_| 0,
    };
    in_order_within(count, workers, &ahead, worker, consume)
}

/// The same for results of very different sizes, whose bytes have a bound of their own.
pub(crate) fn in_order_within<T: Send, W: FnMut(usize) -> T, R>(
    count: usize,
    workers: usize,
    ahead: &Ahead<T>,
    worker: impl Fn() -> W + Sync,
    consume: impl FnOnce(InOrder<'_, T>) -> R,
) -> R {
    let workers = workers.max(1);
    let desk = Desk {
        count,
        ahead: Ahead {
            results: ahead.results.saturating_mul(workers),
            bytes: ahead.bytes.saturating_mul(workers),
            held: ahead.held,
        },
        state: Mutex::new(State {
            begun: 0,
            taken: 0,
            held: 0,
            ready: VecDeque::new(),
            workers,
            is_wanted: true,
        }),
        changed: Condvar::new(),
    };
    thread::scope(|scope| {
        let (desk, worker) = (&desk, &worker);
        // First, so that workers end also when there can be no more of them.
        let results = InOrder(desk);
        for _ in 0..workers {
            scope.spawn(move || {
                let _leaving = Leaving(desk);
                let mut result = worker();
                while let Some(number) = desk.begin() {
                    desk.put(number, result(number));
                }
            });
        }
        consume(results)
    })
}

/// Where numbers are given out, and results lie until they are wanted.
struct Desk<T> {
    count: usize,
    /// How much may be begun and not taken.
    ahead: Ahead<T>,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// The numbers below were given out.
    begun: usize,
    /// The results below were taken.
    taken: usize,
    /// Bytes of those that are ready.
    held: usize,
    /// Those from there on, as far as they are ready.
    ready: VecDeque<Option<T>>,
    /// Workers that are still there.
    workers: usize,
    /// Whether anybody takes results.
    is_wanted: bool,
}

impl<T> Desk<T> {
    /// A worker that has panicked ends all anyhow.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `wait` says so.
    fn wait(&self, wait: impl Fn(&State<T>) -> bool) -> MutexGuard<'_, State<T>> {
        let state = self.changed.wait_while(self.state(), |state| wait(state));
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// The next number, when it is time for it; none when there is nothing to do any more.
    fn begin(&self) -> Option<usize> {
        let is_early = |state: &State<T>| {
            let waiting = state.begun - state.taken;
            // What is wanted next is never early.
            waiting >= self.ahead.results || waiting > 0 && state.held >= self.ahead.bytes
        };
        let mut state =
            self.wait(|state| state.is_wanted && state.begun < self.count && is_early(state));
        if !state.is_wanted || state.begun == self.count {
            return None;
        }
        state.begun += 1;
        state.ready.push_back(None);
        Some(state.begun - 1)
    }

    fn put(&self, number: usize, result: T) {
        let mut state = self.state();
        let place = number - state.taken;
        state.held += (self.ahead.held)(&result);
        state.ready[place] = Some(result);
        drop(state);
        self.changed.notify_all();
    }

    /// The next result; none behind the last, or when a worker has panicked.
    fn take(&self) -> Option<T> {
        let is_ready = |state: &State<T>| matches!(state.ready.front(), Some(Some(_)));
        let mut state = self.wait(|state| state.workers > 0 && !is_ready(state));
        let result = state.ready.pop_front()??;
        state.taken += 1;
        state.held -= (self.ahead.held)(&result);
        drop(state);
        self.changed.notify_all();
        Some(result)
    }
}

/// A worker, which says so when it goes, for whatever reason.
struct Leaving<'a, T>(&'a Desk<T>);

impl<T> Drop for Leaving<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.workers -= 1;
        // What one began that panics is never ready: the others would wait for it.
        state.is_wanted &= !thread::panicking();
        drop(state);
        self.0.changed.notify_all();
    }
}

/// The results, in order. Without it nobody works on.
pub(crate) struct InOrder<'a, T>(&'a Desk<T>);

impl<T> Iterator for InOrder<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.take()
    }
}

impl<T> Drop for InOrder<'_, T> {
    fn drop(&mut self) {
        self.0.state().is_wanted = false;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

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
            let got = in_order(
                100,
                workers,
                FEW,
                || slow_at_three,
                |all| all.collect::<Vec<_>>(),
            );
            let wanted: Vec<_> = (0..100).map(|number| number * number).collect();
            assert_eq!(got, wanted, "{workers} workers");
        }
    }

    #[test]
    fn workers_end_when_their_results_are_not_wanted() {
        let first = in_order(usize::MAX, 3, FEW, || |number| number, |mut all| all.next());
        assert_eq!(first, Some(0));
    }

    #[test]
    fn no_more_is_begun_than_may_wait() {
        let begun = AtomicUsize::new(0);
        let count = |number| {
            begun.fetch_add(1, Ordering::SeqCst);
            number
        };
        in_order(
            1000,
            3,
            5,
            || count,
            |all| {
                for number in all {
                    assert!(begun.load(Ordering::SeqCst) <= number + 1 + 3 * 5);
                }
            },
        );
        assert_eq!(begun.into_inner(), 1000);
    }

    #[test]
    fn no_more_bytes_than_may_wait_are_ready_but_for_those_that_were_at_work() {
        let ready = AtomicUsize::new(0);
        let ahead = Ahead {
            results: usize::MAX,
            bytes: 100,
            held: |result: &usize| *result,
        };
        let results = |number: usize| {
            ready.fetch_add(number % 60, Ordering::SeqCst);
            number % 60
        };
        let sum = in_order_within(
            1000,
            3,
            &ahead,
            || results,
            |all| {
                let mut taken = 0;
                for result in all {
                    // Each of three may have begun one more; this one is taken.
                    let waiting = ready.load(Ordering::SeqCst) - taken;
                    assert!(waiting < 300 + 4 * 60, "{waiting}");
                    taken += result;
                }
                taken
            },
        );
        assert_eq!(sum, (0..1000).map(|number| number % 60).sum::<usize>());
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn the_others_do_not_wait_for_what_a_worker_that_panics_had_begun() {
        let not_one = |number: usize| assert!(number != 1, "one of the workers");
        in_order(1000, 2, FEW, || not_one, |all| all.count());
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_worker_that_panics_leaves_nobody_waiting() {
        let odd = |number: usize| assert!(number.is_multiple_of(2), "one of the workers");
        in_order(10, 2, FEW, || odd, |all| all.count());
    }
}
