//! What a bench prints beside Criterion's own lines: how its candidates compare.
//!
//! A time says little about another machine, or about this one in an hour; a ratio of two times
//! from one run says more. Every sample that Criterion takes is kept here too, and the medians are
//! compared at the end. Nothing is asserted.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    hint::black_box,
    rc::Rc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};

/// The samples of each candidate, in nanoseconds an iteration.
#[derive(Clone, Default)]
pub struct Samples(Rc<RefCell<BTreeMap<String, Vec<f64>>>>);

impl Samples {
    /// Measure one candidate.
    pub fn measure<T>(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        name: &str,
        candidate: impl FnMut() -> T,
    ) {
        self.measure_per(group, name, 1.0, candidate);
    }

    /// Measure one that does a thing so many times at once.
    pub fn measure_per<T>(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        name: &str,
        each: f64,
        mut candidate: impl FnMut() -> T,
    ) {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let started = Instant::now();
                for _ in 0..times {
                    black_box(candidate());
                }
                let took = started.elapsed();
                let took = took.div_f64(each);
                self.keep(name, took, times);
                took
            });
        });
    }

    fn keep(&self, name: &str, took: Duration, times: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a count of iterations is far below 2^52")]
        let each = took.as_secs_f64() * 1e9 / times as f64;
        self.0.borrow_mut().entry(name.to_owned()).or_default().push(each);
    }

    /// Print the median of each candidate, and what multiple of the first one's it is.
    pub fn compare(&self, title: &str, names: &[&str]) {
        let medians: Vec<Option<f64>> = names.iter().map(|name| self.median(name)).collect();
        let Some(first) = medians.first().copied().flatten() else { return };
        println!("{title}");
        for (name, median) in names.iter().zip(medians) {
            if let Some(median) = median {
                let (ratio, micros) = (median / first, median / 1e3);
                println!("  {name:<44} {micros:>10.3} µs  {ratio:>8.2} ×");
            }
        }
        println!();
    }

    fn median(&self, name: &str) -> Option<f64> {
        let samples = self.0.borrow();
        let mut sorted = samples.get(name)?.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

/// Criterion, told to be short: the whole comparison has to end while somebody waits for it.
pub fn short() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}
