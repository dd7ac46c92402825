use std::collections::HashMap;
use std::sync::Mutex as StdMutex;

use ::prometheus::Registry;
use axum::body::Body;
use axum::http::{Response, StatusCode};
use jiff::SignedDuration;
use vpa_core::model::{Settings, VpaId};

use super::*;
use crate::args::{Args, HistorySource};

const NOW: i64 = 1_700_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

/// A question that the server got.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    query: String,
    start: i64,
    end: i64,
}

/// What the server does with a question.
enum Reply {
    /// It answers as it should.
    Well,
    /// It answers this.
    With(StatusCode, &'static str),
    /// It closes the connection in the middle of the answer.
    Cut,
    /// It never answers.
    Never,
}

/// A Prometheus with two pods: one gone, one of which a second run began in the middle of the span. `reply` gets the
/// question and how many there were before.
struct Server {
    address: String,
    asked: Arc<StdMutex<Vec<Asked>>>,
}

impl Server {
    async fn start(reply: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, reply)
    }

    fn on(
        listener: tokio::net::TcpListener,
        reply: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = format!("http://{}/prefix", listener.local_addr().unwrap());
        let asked: Arc<StdMutex<Vec<Asked>>> = Arc::default();
        let log = asked.clone();
        let reply = Arc::new(reply);
        let handler = move |body: String| {
            let form: HashMap<String, String> =
                form_urlencoded::parse(body.as_bytes()).into_owned().collect();
            let number = |key: &str| form.get(key).map_or(0, |text| text.parse::<f64>().unwrap() as i64);
            let question = Asked { query: form["query"].clone(), start: number("start"), end: number("end") };
            let before = {
                let mut log = log.lock().unwrap();
                log.push(question.clone());
                log.len() - 1
            };
            let (reply, step) = (reply.clone(), number("step"));
            async move {
                match reply(&question, before) {
                    Reply::Well => Response::new(Body::from(answer(&question, step))),
                    Reply::With(code, text) => {
                        Response::builder().status(code).body(Body::from(text)).unwrap()
                    }
                    Reply::Cut => {
                        let text = answer(&question, step);
                        let part = text[..text.len() / 2].to_owned();
                        let pieces = [Ok(part), Err(std::io::Error::other("cut"))];
                        Response::new(Body::from_stream(futures::stream::iter(pieces)))
                    }
                    Reply::Never => std::future::pending().await,
                }
            }
        };
        let router = axum::Router::new().route("/prefix/api/v1/{query}", axum::routing::post(handler));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(question: &Asked, step: i64) -> String {
    let series = |pod: &str, id: &str, times: Vec<i64>, value: f64| {
        let values: Vec<_> = times.iter().map(|time| format!("[{time},\"{value}\"]")).collect();
        let labels = format!(r#""namespace":"n","pod_name":"{pod}","name":"c","id":"{id}""#);
        format!(r#"{{"metric":{{{labels}}},"values":[{}]}}"#, values.join(","))
    };
    if question.query.starts_with("max_over_time") {
        let pod = |name: &str, app: &str, seen: i64| {
            format!(
                r#"{{"metric":{{"kubernetes_namespace":"n","kubernetes_pod_name":"{name}","pod_label_app_kubernetes_io_name":"{app}"}},"value":[{NOW},"{seen}"]}}"#
            )
        };
        let all = [pod("gone", "before", 5), pod("gone", "web", 7), pod("live", "wrong", 9)].join(",");
        return format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{all}]}}}}"#);
    }
    let times: Vec<i64> =
        (0..).map(|n| question.start + n * step).take_while(|time| *time <= question.end).collect();
    let value = if question.query.starts_with("rate(") { 0.25 } else { 1e9 };
    let restart = NOW - 4 * 86_400;
    let (early, late): (Vec<i64>, Vec<i64>) = times.iter().partition(|time| **time < restart);
    // The later run comes first.
    let all = [
        series("live", "2", late, value),
        series("live", "1", early, value),
        series("gone", "1", times, value * 2.0),
    ];
    format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{}]}}}}"#, all.join(","))
}

struct World {
    history: History,
    state: ClusterState,
    live: Store<StoredPod>,
    scope: Scope,
}

impl World {
    fn new(address: &str, flags: &[&str]) -> Self {
        let address = format!("--prometheus-address={address}");
        let argv = ["x", "--storage=prometheus", address.as_str(), "--prometheus-query-timeout=2s"];
        let argv = argv.iter().chain(flags).map(std::ffi::OsString::from);
        let args = vpa_runtime::flags::parse::<Args>(&crate::COMPONENT, argv).unwrap().unwrap().args;
        let scope = args.common.scope.scope().unwrap();
        let options = args.recommender.options(&scope, &args.common.feature_gates).unwrap();
        let HistorySource::Prometheus(prometheus) = &options.history else { panic!("{:?}", options.history) };
        let metrics = Arc::new(HistoryMetrics::new(&Registry::new()).unwrap());
        let mut history = History::new(prometheus, metrics).unwrap();
        history.waits = [Duration::from_millis(5), Duration::from_millis(20)];
        let live = Store::detached("pods");
        live.apply(serde_json::from_str(
            r#"{"metadata":{"namespace":"n","name":"live","labels":{"app.kubernetes.io/name":"web"}},"spec":{"containers":[{"name":"c"}]},"status":{"phase":"Running"}}"#,
        ).unwrap());
        Self { history, state: ClusterState::new(Settings::default()), live, scope: options.scope }
    }

    async fn load(&mut self, stop: &CancellationToken) -> bool {
        let wanted = Wanted {
            state: &mut self.state,
            live: &self.live,
            scope: &self.scope,
            selected_only: false,
            clock: now,
        };
        self.history.load(wanted, stop).await
    }

    /// CPU samples under the labels that a VPA would select.
    fn samples(&mut self) -> i64 {
        let vpa = serde_json::json!({"metadata": {"namespace": "n", "name": "v"}, "spec": {}});
        let target = vpa_core::model::Target::Found(
            vpa_core::target::Selector::parse("app.kubernetes.io/name=web").unwrap(),
        );
        let vpa = Arc::new(serde_json::from_value(vpa).unwrap());
        self.state.apply(Observation::Vpa(vpa, target), now()).unwrap();
        let merged = self.state.aggregates_of(&VpaId::new("n", "v"), now());
        let Some(aggregate) = merged.get("c") else { return 0 };
        // The pod that is gone used twice as much as the one that is there.
        let [cpu, memory] = [&aggregate.cpu, &aggregate.memory].map(|histogram| histogram.percentile(0.9));
        assert!((0.47..0.53).contains(&cpu), "{cpu} cores");
        assert!((1.9e9..2.1e9).contains(&memory), "{memory} bytes");
        aggregate.samples
    }
}

/// Moments in eight days by the hour, of two pods.
const ALL: i64 = 2 * (8 * 24 + 1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_2543_history_comes_in_slices_and_a_failed_one_does_not_begin_anew() {
    let server = Server::start(|_, before| match before {
        5 => Reply::With(StatusCode::INTERNAL_SERVER_ERROR, "out of memory"),
        7 => Reply::Cut,
        _ => Reply::Well,
    })
    .await;
    let mut world = World::new(&server.address, &[]);
    assert!(world.load(&CancellationToken::new()).await);
    assert_eq!(world.samples(), ALL);
    let asked = server.asked();
    let cpu: Vec<_> = asked.iter().filter(|asked| asked.query.starts_with("rate(")).collect();
    assert_eq!(cpu[0].start, NOW - 8 * 86_400);
    assert_eq!(cpu.last().unwrap().end, NOW);
    let mut ranges: Vec<_> = cpu.iter().map(|asked| (asked.start, asked.end)).collect();
    let questions = ranges.len();
    ranges.dedup();
    assert!(ranges.len() > 3 && questions <= ranges.len() + 2, "{ranges:?}");
    for pair in ranges.windows(2) {
        assert_eq!(pair[1].0, pair[0].1 + 3600, "{ranges:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_6050_whatever_an_answer_is_all_of_history_comes_in_the_end() {
    let too_many = r#"{"status":"error","errorType":"execution","error":"query processing would load too many samples"}"#;
    let server = Server::start(move |asked, before| match before % 9 {
        0 => Reply::With(StatusCode::SERVICE_UNAVAILABLE, "<html>no backend</html>"),
        1 => Reply::Cut,
        2 => Reply::With(
            StatusCode::OK,
            "{\"status\":\"success\",\"data\":{\"resultType\":\"scalar\",\"result\":[1,\"1\"]}}",
        ),
        3 => Reply::With(StatusCode::OK, ""),
        4 if asked.end > asked.start => Reply::With(StatusCode::UNPROCESSABLE_ENTITY, too_many),
        5 => Reply::With(StatusCode::UNAUTHORIZED, "who are you"),
        _ => Reply::Well,
    })
    .await;
    let mut world = World::new(&server.address, &[]);
    assert!(world.load(&CancellationToken::new()).await);
    assert_eq!(world.samples(), ALL);
    assert_eq!(world.history.progress().ready(), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_9228_without_prometheus_it_waits_says_why_and_goes_on_once_it_is_there() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut world = World::new(&format!("http://{address}/prefix"), &[]);
    let progress = world.history.progress();
    let stop = CancellationToken::new();
    let halt = stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        halt.cancel();
    });
    assert!(!world.load(&stop).await, "nothing was read, and nothing is gone on with");
    let reason = progress.ready().unwrap_err();
    assert!(reason.contains("0 %") && reason.contains("last failure"), "{reason}");
    assert_eq!(world.state.aggregate_count(), 0);
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let _server = Server::on(listener, |_, before| if before == 1 { Reply::Never } else { Reply::Well });
    assert!(world.load(&CancellationToken::new()).await);
    assert_eq!((world.samples(), progress.ready()), (ALL, Ok(())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_names_and_the_namespace_are_as_the_flags_say() {
    let server = Server::start(|_, _| Reply::Well).await;
    let flags = [
        "--vpa-object-namespace=n",
        "--prometheus-cadvisor-job-name=a\"b",
        "--history-length=1d",
        "--history-resolution=30m",
        "--history-cpu-metric=cpu_used",
        "--metric-for-pod-labels=kube_pod_labels",
    ];
    let mut world = World::new(&server.address, &flags);
    assert!(world.load(&CancellationToken::new()).await);
    let mut queries: Vec<_> = server.asked().into_iter().map(|asked| asked.query).collect();
    queries.sort();
    queries.dedup();
    let matchers = r#"job="a\"b", pod_name=~".+", name!="POD", name!="", namespace="n""#;
    let want = [
        format!("container_memory_working_set_bytes{{{matchers}}}"),
        "max_over_time(timestamp(kube_pod_labels)[1d:30m])".to_owned(),
        format!("rate(cpu_used{{{matchers}}}[30m])"),
    ];
    assert_eq!(queries, want);
    // A second look at what is known takes nothing twice.
    let once = world.samples();
    assert!(world.load(&CancellationToken::new()).await);
    let gone_again = SignedDuration::from_hours(24).as_secs() / 1800 + 1;
    assert_eq!(world.samples(), once + gone_again, "the pod that is gone counts as another one");
}
