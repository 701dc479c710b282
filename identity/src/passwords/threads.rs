//! The threads that hash, and do nothing else.
//!
//! A hash takes a core for tens of milliseconds, and whatever else runs on that core would wait for it: a
//! decision at the proxy of this process, too. So these give way to everything (`setpriority(2)`).

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

/// How much they give way, of 19: a tenth of a core is theirs where others want all of it.
const NICE: i32 = 10;

type Job<T> = Box<dyn FnOnce(&T) + Send>;

/// Threads over something that all of them work with. They end when this is dropped.
#[derive(Debug)]
pub struct Threads<T>(mpsc::Sender<Job<T>>);

impl<T> Clone for Threads<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Send + Sync + 'static> Threads<T> {
    /// Begin with so many.
    ///
    /// # Errors
    ///
    /// When the system gives none.
    pub fn start(count: usize, with: &Arc<T>) -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel::<Job<T>>();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..count {
            let (jobs, with) = (Arc::clone(&jobs), Arc::clone(with));
            let run = move || {
                // Where that is not allowed, they give way as little as all others.
                let _ = rustix::process::setpriority_process(None, NICE);
                loop {
                    let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { return };
                    // Whoever waits for what panicked hears that it was given up.
                    let _ = catch_unwind(AssertUnwindSafe(|| job(&with)));
                }
            };
            thread::Builder::new().name("passwords".to_owned()).spawn(run)?;
        }
        Ok(Self(sender))
    }

    /// Have something done. It is dropped where nobody is left to do it.
    pub fn give(&self, job: impl FnOnce(&T) + Send + 'static) {
        // Its answer is dropped with it, and that is how it is told.
        let _ = self.0.send(Box::new(job));
    }
}

#[cfg(test)]
mod tests {
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
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let threads = Threads::start(1, &Arc::new(())).unwrap();
        let (answer, answered) = oneshot::channel();
        threads.give(move |()| answer.send(nice()).unwrap());
        assert_eq!(answered.await.unwrap(), NICE.max(before));
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), before);
    }
}
