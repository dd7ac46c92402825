use super::*;
use crate::flags::{CommonFlags, FeatureGates, GoDuration, LeaderElectFlags};

#[derive(clap::Parser, Debug)]
struct Args {
    #[command(flatten)]
    common: CommonFlags,
    #[command(flatten)]
    leader: LeaderElectFlags,
    /// An interval.
    #[arg(long, default_value = "1m0s")]
    updater_interval: GoDuration,
    /// On by default.
    #[arg(long, default_value_t = true)]
    use_status: bool,
    /// A number.
    #[arg(long, default_value_t = -1)]
    burst: i64,
    /// A ratio.
    #[arg(long, default_value_t = 0.5)]
    tolerance: f64,
}

impl AsRef<CommonFlags> for Args {
    fn as_ref(&self) -> &CommonFlags {
        &self.common
    }
}

const COMPONENT: Component = Component {
    name: "vpa-test",
    about: "A test.",
    default_address: ":8943",
    lease_name: Some("vpa-updater"),
};

fn read(line: &str) -> Result<Parsed<Args>, Error> {
    let argv = std::iter::once("vpa-test").chain(line.split_whitespace()).map(OsString::from);
    Ok(parse::<Args>(&COMPONENT, argv)?.expect("no help asked for"))
}

fn args(line: &str) -> Args {
    read(line).unwrap_or_else(|e| panic!("{line}: {e}")).args
}

#[test]
fn defaults() {
    let Args { common, leader, updater_interval, use_status, burst, tolerance } = args("");
    assert_eq!(common.address.as_str(), ":8943");
    assert_eq!(common.kube.kube_api_qps, 0.0);
    assert_eq!(leader.leader_elect_resource_name, "vpa-updater");
    assert!(!leader.leader_elect);
    assert_eq!(updater_interval.to_string(), "1m0s");
    assert!(use_status);
    assert_eq!((burst, tolerance), (-1, 0.5));
    assert_eq!(common.feature_gates, FeatureGates::default());
}

#[test]
fn truth_values() {
    for (line, want) in [
        ("", false),
        ("--leader-elect", true),
        ("-leader-elect", true),
        ("--leader_elect", true),
        ("--leader-elect=true", true),
        ("--leader-elect=T", true),
        ("--leader-elect=1", true),
        ("--leader-elect=False", false),
        ("--leader-elect=0", false),
        ("-leader_elect=f", false),
        ("--leader-elect --leader-elect=false", false),
        ("--leader-elect=false --leader-elect", true),
    ] {
        assert_eq!(args(line).leader.leader_elect, want, "{line}");
    }
    assert!(!args("--use-status=false").use_status);
    assert!(args("--use-status=false --use_status").use_status);
}

#[test]
fn values() {
    assert_eq!(args("--burst -7").burst, -7);
    assert_eq!(args("--burst=-7 --burst=0x10").burst, 16);
    assert_eq!(args("-burst 1_000").burst, 1000);
    assert_eq!(args("--tolerance -1e-1").tolerance, -0.1);
    assert_eq!(args("--updater_interval .5s").updater_interval.to_string(), "500ms");
    assert_eq!(args("--updater-interval=0").updater_interval, GoDuration::default());
    assert_eq!(args("-address=127.0.0.1:0").common.address.port(), 0);
    assert_eq!(args("--kubeconfig a=b").common.kube.kubeconfig.unwrap().to_str(), Some("a=b"));
    assert_eq!(args("--kubeconfig=").common.kube.kubeconfig.unwrap().to_str(), Some(""));
}

#[test]
fn klog_flags() {
    for (line, level) in [("-v=6", 6), ("-v 6", 6), ("-v6", 6), ("--v=6", 6), ("--v 0", 0), ("", 4)] {
        assert_eq!(args(line).common.log.klog.v, level, "{line}");
    }
    let parsed =
        read("--logtostderr --stderrthreshold=info --vmodule=a=1 --skip_headers=false -v=2").unwrap();
    assert_eq!(
        parsed.warnings,
        ["flags without effect here: --logtostderr, --skip-headers, --stderrthreshold, --vmodule"]
    );
}

#[test]
fn words_that_are_no_flags_are_ignored_aloud() {
    let parsed = read("--leader-elect false x -- --burst=3").unwrap();
    assert!(parsed.args.leader.leader_elect, "as in Go, the flag does not take the word behind it");
    assert_eq!(parsed.args.burst, -1);
    assert_eq!(parsed.warnings.len(), 1);
    assert!(parsed.warnings[0].contains("false x --burst=3"), "{:?}", parsed.warnings);
}

#[test]
fn feature_gates_add_up() {
    let gates =
        args("--feature-gates=InPlace=false --feature-gates CPUStartupBoost=false").common.feature_gates;
    assert_eq!(gates, FeatureGates { in_place: false, cpu_startup_boost: false, per_vpa_config: true });
}

#[test]
fn a_bad_flag_says_which_what_was_found_and_what_is_allowed() {
    for (line, flag, found, allowed) in [
        ("--burst=many", "burst", "many", "whole number"),
        ("--leader-elect=yes", "leader-elect", "yes", "true or false"),
        ("--updater-interval=60", "updater-interval", "60", "units"),
        ("--address=8943", "address", "8943", "HOST:PORT"),
        ("--feature-gates=Foo=true", "feature-gates", "Foo=true", "InPlace"),
        ("--feature-gates=InPlace=maybe", "feature-gates", "InPlace=maybe", "true or false"),
        ("--kube-api-qps=-1", "kube-api-qps", "-1", "at least 0"),
        ("--kube-api-qps=NaN", "kube-api-qps", "NaN", "finite"),
        ("--log-format=xml", "log-format", "xml", "json"),
        ("--updater-intervall=1m", "updater-intervall", "--updater-intervall", "--updater-interval"),
        ("--nonsense", "nonsense", "--nonsense", "--help"),
        ("--burst", "burst", "nothing", "a value"),
        ("--tolerance=inf", "tolerance", "inf", "finite"),
        (
            "--vpa-object-namespace=a --ignored-vpa-object-namespaces=b",
            "ignored-vpa-object-namespaces",
            "b",
            "--vpa-object-namespace",
        ),
        ("--leader-elect-renew-deadline=20s", "leader-elect-renew-deadline", "20s", "lease-duration"),
        ("--leader-elect-resource-lock=configmaps", "leader-elect-resource-lock", "configmaps", "leases"),
    ] {
        let parsed = read(line).and_then(|parsed| {
            parsed.args.leader.settings()?;
            Ok(parsed)
        });
        match parsed {
            Err(Error::Flag(error)) => {
                assert_eq!((error.flag.as_str(), error.found.as_str()), (flag, found), "{line}: {error}");
                assert!(error.allowed.contains(allowed), "{line}: {error}");
            }
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn help_is_a_text_and_not_an_error() {
    for word in ["--help", "-help", "-h"] {
        let argv = ["vpa-test", word].map(OsString::from);
        let text = parse::<Args>(&COMPONENT, argv).unwrap().unwrap_err();
        assert!(text.contains("--updater-interval"), "{text}");
    }
}
