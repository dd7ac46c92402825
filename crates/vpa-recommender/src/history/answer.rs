//! Prometheus' answers, read as they come: one series at a time is in memory.

use std::collections::BTreeMap;
use std::io::Read;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One series of an answer.
#[derive(Debug, Deserialize)]
pub(super) struct Series {
    /// Its labels.
    #[serde(default)]
    pub(super) metric: BTreeMap<String, String>,
    /// Its samples, of a matrix.
    #[serde(default)]
    values: Vec<Sample>,
    /// Its sample, of a vector.
    value: Option<Sample>,
}

impl Series {
    /// Whether it has samples of several moments.
    pub(super) fn is_matrix(&self) -> bool {
        self.value.is_none()
    }

    /// Its samples: seconds since 1970 and value. What is not a number is left out.
    pub(super) fn samples(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let all = self.values.iter().chain(&self.value);
        all.map(|Sample(time, value)| (*time, value.0)).filter(|(_, value)| value.is_finite())
    }
}

#[derive(Debug, Deserialize)]
struct Sample(f64, Value);

/// A number as text, which may also be `NaN` or `+Inf`.
#[derive(Debug)]
struct Value(f64);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Value;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number as text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
                text.parse().map(Value).map_err(|_| E::custom(format!("{text:?} is not a number")))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Reads an answer and hands each series to `take`, which may refuse to go on with a reason.
///
/// # Errors
/// It is not an answer of Prometheus, is one of failure, ends too soon, or `take` refused.
pub(super) fn read(
    reader: impl Read,
    mut take: impl FnMut(Series) -> Result<(), String>,
) -> Result<(), String> {
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    let answer = Answer(&mut take).deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    match (answer.succeeded, answer.error, answer.has_result) {
        (true, None, true) => Ok(()),
        (_, Some(error), _) => Err(error),
        _ => Err("the answer is none of Prometheus: it has no result".to_owned()),
    }
}

struct Answer<'a, F>(&'a mut F);

#[derive(Default)]
struct Outcome {
    succeeded: bool,
    error: Option<String>,
    has_result: bool,
}

impl<'de, F: FnMut(Series) -> Result<(), String>> DeserializeSeed<'de> for Answer<'_, F> {
    type Value = Outcome;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Outcome, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Series) -> Result<(), String>> Visitor<'de> for Answer<'_, F> {
    type Value = Outcome;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an answer of Prometheus")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outcome, A::Error> {
        let mut outcome = Outcome::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "status" => outcome.succeeded = map.next_value::<String>()? == "success",
                "error" => outcome.error = Some(map.next_value()?),
                "data" => outcome.has_result = map.next_value_seed(Data(self.0))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(outcome)
    }
}

/// The part with the result. Its value says whether there was one.
struct Data<'a, F>(&'a mut F);

impl<'de, F: FnMut(Series) -> Result<(), String>> DeserializeSeed<'de> for Data<'_, F> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Series) -> Result<(), String>> Visitor<'de> for Data<'_, F> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a result")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut has_result = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "resultType" => {
                    let kind: String = map.next_value()?;
                    if !matches!(kind.as_str(), "matrix" | "vector") {
                        return Err(A::Error::custom(format!("the query gives a {kind}, not series")));
                    }
                }
                "result" => {
                    map.next_value_seed(All(self.0))?;
                    has_result = true;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(has_result)
    }
}

/// All series.
struct All<'a, F>(&'a mut F);

impl<'de, F: FnMut(Series) -> Result<(), String>> DeserializeSeed<'de> for All<'_, F> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(Series) -> Result<(), String>> Visitor<'de> for All<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("series")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while let Some(series) = all.next_element::<Series>()? {
            (self.0)(series).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A series, and its points.
    type Taken = (String, Vec<(f64, f64)>);

    fn taken(text: &str) -> Result<Vec<Taken>, String> {
        let mut taken = Vec::new();
        read(text.as_bytes(), |series| {
            taken.push((series.metric.get("pod").cloned().unwrap_or_default(), series.samples().collect()));
            Ok(())
        })?;
        Ok(taken)
    }

    #[test]
    fn series_of_matrices_and_vectors_are_read() {
        let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"pod":"a"},"values":[[1,"0.5"],[2.5,"NaN"],[3,"1e3"]]},
            {"metric":{},"values":[[1,"+Inf"]]}]},"warnings":["slow"]}"#;
        assert_eq!(
            taken(matrix).unwrap(),
            [("a".to_owned(), vec![(1.0, 0.5), (3.0, 1000.0)]), (String::new(), Vec::new())]
        );
        let vector = r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"pod":"a"},"value":[7,"8"]}]}}"#;
        assert_eq!(taken(vector).unwrap(), [("a".to_owned(), vec![(7.0, 8.0)])]);
    }

    #[test]
    fn anything_else_is_an_error_that_says_what() {
        let cases = [
            ("", "EOF"),
            ("<html>", "expected value"),
            ("{}", "no result"),
            (r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{}"#, "EOF"),
            (r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#, "parse error"),
            (r#"{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}"#, "scalar"),
            (
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"x"]]}]}}"#,
                "not a number",
            ),
        ];
        for (text, want) in cases {
            let error = taken(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
        let many =
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{}},{"metric":{}}]}}"#;
        let error = read(many.as_bytes(), |_| Err("enough".to_owned())).unwrap_err();
        assert!(error.starts_with("enough"), "{error}");
    }
}
