//! The threads that hash, and do nothing else.
//!
//! A hash takes a core for tens of milliseconds, and whatever else runs on that core would wait for it: a
//! decision at the proxy of this process, too. So these run only where nobody else wants to
//! (`SCHED_IDLE`, sched(7)). Where somebody always does, one more is there: it takes what has waited for
//! long, and has a share of its own.

use std::{
    collections::VecDeque,
    hint::black_box,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// How much the one more gives way, of 19: a tenth of a core is its own where others want all of it.
const NICE: i32 = 10;
/// How long something waits before the one more takes it.
const LONG: Duration = Duration::from_millis(250);
/// How long a thread that has worked waits for more before it gives its memory back. The allocator keeps
/// what was freed for a second, in case it is wanted again.
const IDLE: Duration = Duration::from_millis(1500);
/// What is large to the allocator: when such a piece is freed, it looks for what it has kept for too long.
const LARGE: usize = 1 << 20;

type Job<T> = Box<dyn FnOnce(&T) + Send>;

/// Threads over something that all of them work with. They end when this is dropped.
#[derive(Debug)]
pub struct Threads<T>(Arc<Ends<T>>);

impl<T> Clone for Threads<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Ends the threads when nobody is left to give them anything.
#[derive(Debug)]
struct Ends<T>(Arc<Line<T>>);

impl<T> Drop for Ends<T> {
    fn drop(&mut self) {
        self.0.queue().ended = true;
        self.0.more.notify_all();
    }
}

/// What waits to be done.
struct Line<T> {
    queue: Mutex<Queue<T>>,
    more: Condvar,
}

impl<T> std::fmt::Debug for Line<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

struct Queue<T> {
    jobs: VecDeque<(Instant, Job<T>)>,
    ended: bool,
}

impl<T> Line<T> {
    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done next, once it has waited so long; `None` at the end. Who has worked gives memory
    /// back when there is nothing more to do.
    fn next(&self, waited: Duration, mut has_worked: bool) -> Option<Job<T>> {
        let mut queue = self.queue();
        loop {
            // What was begun before the end is given up with its answer.
            if queue.ended {
                return None;
            }
            let due = queue.jobs.front().map(|(since, _)| waited.saturating_sub(since.elapsed()));
            queue = match due {
                Some(Duration::ZERO) => return queue.jobs.pop_front().map(|(_, job)| job),
                Some(left) => {
                    self.more.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None if has_worked => {
                    let wait = self.more.wait_timeout_while(queue, IDLE, |queue| {
                        queue.jobs.is_empty() && !queue.ended
                    });
                    let (held, idle) = wait.unwrap_or_else(PoisonError::into_inner);
                    if idle.timed_out() {
                        drop(held);
                        drop(black_box(Vec::<u8>::with_capacity(LARGE)));
                        has_worked = false;
                        self.queue()
                    } else {
                        held
                    }
                }
                None => self.more.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn work(&self, with: &T, waited: Duration) {
        let mut has_worked = false;
        while let Some(job) = self.next(waited, has_worked) {
            // Whoever waits for what panicked hears that it was given up.
            let _ = catch_unwind(AssertUnwindSafe(|| job(with)));
            has_worked = true;
        }
    }
}

impl<T: Send + Sync + 'static> Threads<T> {
    /// Begin with so many, and one more.
    ///
    /// # Errors
    ///
    /// When the system gives none.
    pub fn start(count: usize, with: &Arc<T>) -> io::Result<Self> {
        let queue = Mutex::new(Queue { jobs: VecDeque::new(), ended: false });
        let line = Arc::new(Line { queue, more: Condvar::new() });
        let threads = Self(Arc::new(Ends(Arc::clone(&line))));
        for n in 0..=count {
            let (line, with) = (Arc::clone(&line), Arc::clone(with));
            let run = move || {
                // Where that is not allowed, they give way as little as all others.
                if n < count {
                    let _ = set_thread_priority_and_policy(
                        thread_native_id(),
                        ThreadPriority::Min,
                        ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle),
                    );
                    line.work(&with, Duration::ZERO);
                } else {
                    let _ = rustix::process::setpriority_process(None, NICE);
                    line.work(&with, LONG);
                }
            };
            thread::Builder::new().name("passwords".to_owned()).spawn(run)?;
        }
        Ok(threads)
    }

    /// Have something done. It is dropped where nobody is left to do it.
    pub fn give(&self, job: impl FnOnce(&T) + Send + 'static) {
        let line = &self.0.0;
        line.queue().jobs.push_back((Instant::now(), Box::new(job)));
        // Each of them: the one more may not take it yet.
        line.more.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use thread_priority::thread_schedule_policy;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn w_what_panics_is_given_up_and_the_thread_goes_on() {
        let threads = Threads::start(1, &Arc::new(7)).unwrap();
        let (answer, answered) = oneshot::channel::<i32>();
        threads.give(move |_| {
            let _answer = answer;
            panic!("as a fault of ours would");
        });
        assert!(answered.await.is_err());
        let (answer, answered) = oneshot::channel();
        threads.give(move |seven| answer.send(*seven).unwrap());
        assert_eq!(answered.await, Ok(7));
    }

    #[tokio::test]
    async fn w_hashing_gives_way_and_nothing_else_does() {
        let policy = || thread_schedule_policy().unwrap();
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let before = policy();
        assert_ne!(before, idle);
        let threads = Threads::start(1, &Arc::new(())).unwrap();
        let (answer, answered) = oneshot::channel();
        threads.give(move |()| answer.send(policy()).unwrap());
        assert_eq!(answered.await.unwrap(), idle);
        assert_eq!(policy(), before);
    }

    #[tokio::test]
    async fn w_what_waits_for_long_is_taken_by_the_one_more() {
        // The only other thread is kept busy, as it is on a core that others never leave.
        let threads = Threads::start(1, &Arc::new(())).unwrap();
        let (go_on, held) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        threads.give(move |()| {
            begun.send(()).unwrap();
            held.recv().unwrap();
        });
        begins.await.unwrap();
        let (answer, answered) = oneshot::channel();
        threads.give(move |()| answer.send(thread_schedule_policy().unwrap()).unwrap());
        let other = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
        assert_eq!(answered.await.unwrap(), other);
        go_on.send(()).unwrap();
    }

    #[tokio::test]
    async fn they_end_with_the_last_who_could_give_them_anything() {
        let with = Arc::new(());
        let threads = Threads::start(2, &with).unwrap();
        let (answer, answered) = oneshot::channel();
        threads.clone().give(move |()| answer.send(()).unwrap());
        answered.await.unwrap();
        drop(threads);
        while Arc::strong_count(&with) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
