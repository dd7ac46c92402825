//! The recommender against the golden cases.

mod conditions;
mod flags;
mod inputs;
mod numbers;
mod post;
mod scenario;

#[test]
fn golden_recommender() {
    let mut suite = golden::Suite::new("recommender");
    suite.section("math.json", "exp2", numbers::exp2);
    suite.section("math.json", "pow", numbers::pow);
    suite.section("math.json", "log", numbers::log);
    suite.section("buckets.json", "buckets", numbers::buckets);
    suite.section("buckets.json", "find", numbers::find);
    suite.section("histogram.json", "sequences", numbers::sequence);
    suite.section("histogram.json", "merges", numbers::merge);
    suite.section("histogram.json", "loads", numbers::load);
    suite.section("format.json", "humanize", post::humanize);
    suite.section("format.json", "roundUpToScale", post::round_up);
    suite.section("format.json", "resourceList", post::resource_list);
    suite.section("format.json", "scaleResource", post::scale);
    suite.section("format.json", "podMinimum", post::pod_minimum);
    suite.section("postprocess.json", "cases", post::process);
    suite.section("inputs.json", "usage", inputs::usage);
    suite.section("inputs.json", "podUpdates", inputs::pod_update);
    suite.section("inputs.json", "evictions", inputs::eviction);
    for file in ["recommend-default.json", "recommend-altered.json", "checkpoint.json"] {
        suite.section(file, "scenarios", scenario::run);
    }
    suite.section("conditions.json", "cases", conditions::run);
    suite.finish();
}
