use parking_lot::Mutex;
use prometheus::Registry;
use vpa_core::pace;

use super::*;
use crate::Pacer;
use crate::testing::tally;

fn executor(workers: usize) -> (Executor, Arc<RuntimeMetrics>) {
    let metrics = Arc::new(RuntimeMetrics::new(&Registry::new()).unwrap());
    (Executor::new("test", Pacer::new(workers), metrics.clone()), metrics)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test(start_paused = true)]
async fn outcomes_come_in_the_order_of_the_items_and_one_failure_stays_alone() {
    let (executor, metrics) = executor(4);
    let report = executor
        .run((0..20u64).collect(), soon(), &CancellationToken::new(), |item, _| {
            let item = *item;
            async move {
                tokio::time::sleep(Duration::from_millis(100 - item * 5)).await;
                Attempt::Over(if item == 7 { Outcome::Failed("no".into()) } else { Outcome::Done(item) })
            }
        })
        .await;
    assert_eq!(
        report.outcomes.iter().map(|(item, _)| *item).collect::<Vec<_>>(),
        (0..20).collect::<Vec<_>>()
    );
    assert_eq!(report.counts(), [("done", 19), ("failed", 1)].into());
    assert_eq!(metrics.writes.with_label_values(&["test", "done"]).get(), 19);
}

#[tokio::test(start_paused = true)]
async fn so_many_at_once_and_a_slow_one_holds_up_nobody() {
    let (executor, _) = executor(3);
    let running = Mutex::new((0, 0));
    let began = Instant::now();
    let report = executor
        .run((0..30).collect(), soon(), &CancellationToken::new(), |item, _| {
            let (item, running) = (*item, &running);
            async move {
                {
                    let mut running = running.lock();
                    running.0 += 1;
                    running.1 = running.1.max(running.0);
                }
                let time = if item == 0 { Duration::from_secs(10) } else { Duration::from_secs(1) };
                tokio::time::sleep(time).await;
                running.lock().0 -= 1;
                Attempt::Over(Outcome::Done(()))
            }
        })
        .await;
    assert_eq!(report.counts(), [("done", 30)].into());
    assert_eq!(running.lock().1, 3);
    assert!(began.elapsed() < Duration::from_secs(16), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn conflicts_are_tried_again_and_counted() {
    let (executor, metrics) = executor(8);
    let attempts = Mutex::new(Vec::new());
    let report =
        executor
            .run(vec![0u32, 1, 3, 99], soon(), &CancellationToken::new(), |item, attempt| {
                attempts.lock().push(*item);
                let item = *item;
                async move {
                    if attempt < item { Attempt::Conflict } else { Attempt::Over(Outcome::Done(attempt)) }
                }
            })
            .await;
    let outcomes: Vec<Outcome<u32>> = report.outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes, [Outcome::Done(0), Outcome::Done(1), Outcome::Done(3), Outcome::Conflict]);
    assert_eq!(tally(attempts.into_inner()), [(0, 1), (1, 2), (3, 4), (99, 5)].into());
    assert_eq!(metrics.conflicts.with_label_values(&["test"]).get(), 1 + 3 + 5);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_leaves_the_rest_for_later() {
    let (executor, _) = executor(2);
    let report = executor
        .run(
            (0..10).collect(),
            Instant::now() + Duration::from_millis(2500),
            &CancellationToken::new(),
            |_, _| async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Attempt::Over(Outcome::Done(()))
            },
        )
        .await;
    assert_eq!(report.counts(), [("done", 4), ("failed", 2), ("not_started", 4)].into());
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_what_is_under_way_and_starts_nothing() {
    let (executor, _) = executor(2);
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        stopper.cancel();
    });
    let report = executor
        .run((0..10).collect(), soon(), &stop, |_, _| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Attempt::Over(Outcome::Done(()))
        })
        .await;
    assert_eq!(report.counts(), [("cancelled", 6), ("done", 4)].into());
}

#[test]
fn jitter_is_within_its_bounds_and_varies() {
    let most = Duration::from_secs(10);
    let values: Vec<Duration> = (0..100).map(|_| jitter(most)).collect();
    assert!(values.iter().all(|value| *value < most));
    assert!(tally(values).len() > 50);
    assert_eq!(jitter(Duration::ZERO), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_number_at_once_follows_the_pace() {
    let pace = Pacer::new(16);
    let metrics = Arc::new(RuntimeMetrics::new(&Registry::new()).unwrap());
    let executor = Executor::new("test", pace.clone(), metrics.clone());
    let running = Mutex::new((0, BTreeMap::new()));
    // The first hundred are answered well, those from the hundredth to the three hundredth not at all.
    let report = executor
        .run((0..400u32).collect(), soon(), &CancellationToken::new(), |item, _| {
            let (item, running, pace) = (*item, &running, &pace);
            async move {
                {
                    let mut running = running.lock();
                    running.0 += 1;
                    let now = running.0;
                    running.1.insert(item, now);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                running.lock().0 -= 1;
                let fails = (100..300).contains(&item);
                pace.answered(if fails {
                    pace::Answer::Failed
                } else {
                    pace::Answer::Given { kind: "patch", took: Duration::from_millis(100) }
                });
                Attempt::Over(Outcome::Done(()))
            }
        })
        .await;
    assert_eq!(report.counts(), [("done", 400)].into());
    let seen = &running.lock().1;
    let most = |items: std::ops::Range<u32>| items.map(|item| seen[&item]).max();
    assert_eq!((most(0..4), most(60..100)), (Some(4), Some(16)));
    assert_eq!((most(280..300), most(390..400).is_some_and(|most| most > 2)), (Some(1), true));
    assert_eq!(metrics.queue_length.with_label_values(&["test"]).get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_budget_spreads_writes_over_time_and_yields_to_the_deadline_and_the_stop() {
    let budget = || Rate::of(vpa_core::limiter::Limiter::new(10.0, 1).unwrap());
    let work = |_: &i32, _| async { Attempt::Over(Outcome::Done(())) };
    let (executor, _) = executor(4);
    let go = CancellationToken::new();
    let began = Instant::now();
    let budgeted = executor.clone().at_rate(budget());
    let all = budgeted.run((0..21).collect(), soon(), &go, work).await;
    assert_eq!(all.counts(), [("done", 21)].into());
    assert_eq!(began.elapsed().as_millis() / 100, 20);
    let budgeted = executor.clone().at_rate(budget());
    let deadline = Instant::now() + Duration::from_millis(450);
    let some = budgeted.run((0..21).collect(), deadline, &go, work).await;
    assert_eq!(some.counts(), [("done", 5), ("not_started", 16)].into());
    go.cancel();
    let budgeted = executor.at_rate(budget());
    let none = budgeted.run((0..3).collect(), soon(), &go, work).await;
    assert_eq!(none.counts(), [("cancelled", 3)].into());
}
