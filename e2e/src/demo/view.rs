//! What the demonstration shows: the live picture and the summary, as lines of text.

use std::time::Duration;

use super::observe::{Event, EventKind, Observer, PodStory, template, text};
use super::paint::{Colour, Table, cores, count, memory};
use super::promises::{LeftAlone, Promise, Sums};
use super::reasons::Reasons;
use super::workloads::{ALL, TIME_SCALE, Workload};

/// Events shown in the live picture.
const EVENTS_SHOWN: usize = 7;

/// Cells of the progress bar.
const BAR: usize = 30;

/// The live picture.
pub fn live(
    observer: &Observer,
    reasons: &Reasons,
    now: Duration,
    end: Duration,
    cluster: &str,
) -> Vec<String> {
    let mut lines = vec![head(now, end, cluster), String::new()];
    lines.extend(table(observer, reasons));
    lines.push(String::new());
    let newest = observer.events.len().saturating_sub(EVENTS_SHOWN);
    lines.extend(observer.events.iter().skip(newest).map(event));
    lines
}

fn head(now: Duration, end: Duration, cluster: &str) -> String {
    let share = (now.as_secs_f64() / end.as_secs_f64().max(1.0)).clamp(0.0, 1.0);
    let full = (share * BAR as f64).round() as usize;
    let bar = format!("{}{}", "█".repeat(full), Colour::Dim.paint(&"░".repeat(BAR - full)));
    let minutes = (now.as_secs_f64() * TIME_SCALE / 60.0) as u64;
    let clock = format!("day {}, {:02}:{:02}", minutes / 1440 + 1, minutes / 60 % 24, minutes % 60);
    let title = Colour::Bold.paint("Vertical Pod Autoscaler");
    let rest = Colour::Dim.paint(&format!(
        "{:>3} s of {} s · {clock} for the workloads · {cluster}",
        now.as_secs(),
        end.as_secs()
    ));
    format!(" {title}  {bar} {rest}")
}

/// One row for each workload.
fn table(observer: &Observer, reasons: &Reasons) -> Vec<String> {
    let mut table = Table::new(&[3]);
    let title = |text: &str| (Colour::Dim, text.to_owned());
    table.row(
        ["WORKLOAD", "SHAPE", "UPDATE MODE", "PODS", "REQUESTED", "USED", "RECOMMENDED", "APPLIED"]
            .map(title)
            .to_vec(),
    );
    for workload in &ALL {
        table.row(row(observer, reasons, workload));
    }
    table.lines()
}

fn row(observer: &Observer, reasons: &Reasons, workload: &Workload) -> Vec<(Colour, String)> {
    let pods: Vec<&PodStory> = observer.live(workload.name).collect();
    let before = template(workload);
    // Pods may differ while an update goes through them: the one furthest from the template shows where it leads.
    let now = pods.iter().map(|pod| pod.has).max_by_key(|has| {
        let differs = before.minus(*has);
        differs.cpu_millis.abs().saturating_mul(1 << 20).saturating_add(differs.memory_bytes.abs())
    });
    let requested = match now {
        Some(now) if now != before => (Colour::Plain, format!("{} → {}", text(before), text(now))),
        _ => (Colour::Plain, text(before)),
    };
    let known = |amounts: Option<&_>| amounts.copied().map_or_else(|| "—".to_owned(), text);
    let used = if pods.is_empty() { "—".to_owned() } else { known(observer.used.get(workload.name)) };
    vec![
        (Colour::Bold, workload.name.to_owned()),
        (Colour::Dim, workload.shape.to_owned()),
        (Colour::Plain, workload.mode.to_owned()),
        (Colour::Plain, pods.len().to_string()),
        requested,
        (Colour::Plain, used),
        (Colour::Cyan, known(observer.recommended.get(workload.name))),
        applied(observer, reasons, workload, &pods),
    ]
}

fn applied(
    observer: &Observer,
    reasons: &Reasons,
    workload: &Workload,
    pods: &[&PodStory],
) -> (Colour, String) {
    let stories = || observer.all(workload.name);
    let mut parts = Vec::new();
    let resizes: usize = stories().map(|pod| pod.resizes).sum();
    if resizes > 0 {
        parts.push(format!("resized {resizes}×"));
    }
    let evicted = observer.evicted(workload.name);
    if evicted > 0 {
        parts.push(format!("evicted {evicted}×"));
    }
    let admitted = stories().filter(|pod| pod.created_with != template(workload)).count();
    if admitted > evicted || workload.is_batch() && admitted > 0 {
        parts.push(format!("new pods {}×", admitted.saturating_sub(evicted).max(1)));
    }
    let kills: usize = stories().map(|pod| pod.oom_kills).sum();
    if kills > 0 {
        parts.push(format!("{kills} OOM kills"));
    }
    if let Some(waits) = pods.iter().find_map(|pod| pod.resize_waits.as_ref()) {
        return (Colour::Yellow, format!("resize {}", waits.to_lowercase()));
    }
    if parts.is_empty() {
        let said = pods.iter().find_map(|pod| reasons.of(&pod.name)).map(|said| said.reason.as_str());
        return (Colour::Dim, left_alone(workload.mode, said).to_owned());
    }
    (Colour::Green, parts.join(", "))
}

/// Why pods are left alone, in a word or two; the summary says more.
fn left_alone<'a>(mode: &str, reason: Option<&'a str>) -> &'a str {
    match (mode, reason) {
        ("Off", _) => "recommended only",
        ("Initial", _) => "new pods only",
        (_, Some("DisruptionBudget")) => "left: the PDB allows none",
        (_, Some("BelowMinReplicas")) => "left: the only replica",
        (_, Some("NoRecommendation") | None) => "not yet",
        (_, Some("WithinBoundsAndYoung")) => "not yet: young",
        (_, Some(reason)) => reason,
    }
}

fn event(event: &Event) -> String {
    let (colour, mark) = match event.kind {
        EventKind::Resized => (Colour::Green, "↕"),
        EventKind::Evicted => (Colour::Yellow, "⟳"),
        EventKind::OomKilled => (Colour::Red, "✗"),
        EventKind::Admitted => (Colour::Cyan, "+"),
        EventKind::Note => (Colour::Bold, "·"),
    };
    let at = Colour::Dim.paint(&format!("{:>4} s", event.at.as_secs()));
    format!(" {at}  {} {}", colour.paint(mark), event.text)
}

/// One line for where there is no terminal.
pub fn short(observer: &Observer, now: Duration) -> String {
    let sums = Sums::of(observer);
    let total = |kind: EventKind| observer.events.iter().filter(|event| event.kind == kind).count();
    format!(
        "{:>4} s  {} recommended, {} resized in place, {} evicted, {}; requested {} cores {} (before: {} cores {})",
        now.as_secs(),
        count(observer.recommended.len(), "workload"),
        total(EventKind::Resized),
        total(EventKind::Evicted),
        count(total(EventKind::OomKilled), "OOM kill"),
        cores(sums.now.cpu_millis),
        memory(sums.now.memory_bytes),
        cores(sums.before.cpu_millis),
        memory(sums.before.memory_bytes),
    )
}

/// The summary.
pub fn summary(observer: &Observer, left: &[LeftAlone], promises: &[Promise]) -> Vec<String> {
    let sums = Sums::of(observer);
    let total = |kind: EventKind| observer.events.iter().filter(|event| event.kind == kind).count();
    let title = |text: &str| format!(" {}", Colour::Bold.paint(text));
    let mut lines = vec![title("What it brought")];
    let mut table = Table::new(&[]);
    let mut fact = |name: &str, text: String| {
        table.row(vec![(Colour::Plain, "  ".to_owned() + name), (Colour::Cyan, text)]);
    };
    fact(
        "given back",
        format!("{} cores and {}", cores(sums.back.cpu_millis), memory(sums.back.memory_bytes)),
    );
    fact(
        "given to those that lacked it",
        format!("{} cores and {}", cores(sums.added.cpu_millis), memory(sums.added.memory_bytes)),
    );
    fact(
        "requested in all",
        format!(
            "{} cores {}  →  {} cores {}",
            cores(sums.before.cpu_millis),
            memory(sums.before.memory_bytes),
            cores(sums.now.cpu_millis),
            memory(sums.now.memory_bytes)
        ),
    );
    let (kills, after) = oom_kills(observer);
    fact("killed for memory", format!("{kills} before the pods got more memory, {after} after"));
    fact("resized in place", total(EventKind::Resized).to_string());
    fact("evicted", total(EventKind::Evicted).to_string());
    fact("created with the recommendation", total(EventKind::Admitted).to_string());
    lines.extend(table.lines());
    lines.extend([String::new(), title("Left alone, and why")]);
    let mut table = Table::new(&[]);
    for left in left {
        let why = left.why.clone().unwrap_or_else(|| "nobody said why".to_owned());
        table.row(vec![
            (Colour::Plain, format!("  {}", left.workload)),
            (Colour::Dim, count(left.pods, "pod")),
            (Colour::Plain, why),
        ]);
    }
    lines.extend(table.lines());
    lines.extend([String::new(), title("Promised")]);
    for promise in promises {
        let mark = if promise.kept { Colour::Green.paint("✓") } else { Colour::Red.paint("✗") };
        lines.push(format!(
            "   {mark} {} {}",
            promise.text,
            Colour::Dim.paint(&format!("({})", promise.found))
        ));
    }
    lines
}

/// Kills for memory of pods that had what their template gives them, and of those that had got more.
fn oom_kills(observer: &Observer) -> (usize, usize) {
    let all = || observer.pods.values();
    let more = |pod: &PodStory| pod.created_with.memory_bytes > template(pod.workload).memory_bytes;
    let kills = |with_more: bool| all().filter(|pod| more(pod) == with_more).map(|pod| pod.oom_kills).sum();
    (kills(false), kills(true))
}
