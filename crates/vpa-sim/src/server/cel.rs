//! The part of CEL that validation rules of definitions here are written in: comparisons, boolean operators, `in`,
//! `has()`, `size()`, literals, lists, and fields of `self`.
//!
//! A rule that uses more is not evaluated: [`Rule::parse`] says so, and an object that only such a rule refuses is
//! taken here and refused by a real API server.

use serde_json::{Value, json};

/// Deepest nesting of a rule; real ones stay far below.
const DEPTH_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq)]
enum Expr {
    Literal(Value),
    Subject,
    Field(Box<Expr>, String),
    Index(Box<Expr>, Box<Expr>),
    Has(Box<Expr>, String),
    Size(Box<Expr>),
    List(Vec<Expr>),
    Not(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Or,
    And,
    Equal,
    Differs,
    LessOrEqual,
    GreaterOrEqual,
    Less,
    Greater,
    In,
}

/// A rule that can be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule(Expr);

impl Rule {
    /// Reads a rule; `None` where it uses more of CEL than is known here.
    pub(crate) fn parse(source: &str) -> Option<Self> {
        let mut parser = Parser { tokens: tokens(source)?, next: 0, depth: 0 };
        let expr = parser.or()?;
        (parser.next == parser.tokens.len()).then_some(Self(expr))
    }

    /// Whether `subject` passes; a text where the rule cannot be applied to it.
    pub(crate) fn holds(&self, subject: &Value) -> Result<bool, String> {
        match evaluate(&self.0, subject)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(format!("the rule gave {other}, which is no boolean")),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Literal(Value),
    Sign(&'static str),
}

/// Signs of the grammar, longest first.
const SIGNS: &[&str] = &["||", "&&", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ".", ","];

fn tokens(source: &str) -> Option<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first == '\'' || first == '"' {
            let end = rest[1..].find(first)? + 1;
            let text = &rest[1..end];
            // Escapes are not needed so far, so they are not understood either.
            if text.contains('\\') {
                return None;
            }
            found.push(Token::Literal(Value::from(text)));
            end + 1
        } else if first.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            found.push(Token::Literal(Value::from(rest[..end].parse::<i64>().ok()?)));
            end
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            found.push(match &rest[..end] {
                "true" => Token::Literal(Value::Bool(true)),
                "false" => Token::Literal(Value::Bool(false)),
                "null" => Token::Literal(Value::Null),
                word => Token::Word(word.to_owned()),
            });
            end
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign))?;
            found.push(Token::Sign(sign));
            sign.len()
        };
        rest = rest[length..].trim_start();
    }
    Some(found)
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.tokens.get(self.next), Some(Token::Sign(found)) if *found == sign);
        self.next += usize::from(found);
        found
    }

    fn word(&mut self) -> Option<String> {
        let Some(Token::Word(word)) = self.tokens.get(self.next) else { return None };
        self.next += 1;
        Some(word.clone())
    }

    fn or(&mut self) -> Option<Expr> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        let mut left = self.and()?;
        while self.sign("||") {
            left = Expr::Binary(Operator::Or, Box::new(left), Box::new(self.and()?));
        }
        self.depth -= 1;
        Some(left)
    }

    fn and(&mut self) -> Option<Expr> {
        let mut left = self.relation()?;
        while self.sign("&&") {
            left = Expr::Binary(Operator::And, Box::new(left), Box::new(self.relation()?));
        }
        Some(left)
    }

    fn relation(&mut self) -> Option<Expr> {
        let mut left = self.unary()?;
        loop {
            let table = [
                ("==", Operator::Equal),
                ("!=", Operator::Differs),
                ("<=", Operator::LessOrEqual),
                (">=", Operator::GreaterOrEqual),
                ("<", Operator::Less),
                (">", Operator::Greater),
            ];
            let operator = table.iter().find(|(sign, _)| self.sign(sign)).map(|(_, operator)| *operator);
            let operator = match operator {
                Some(operator) => operator,
                None if matches!(self.tokens.get(self.next), Some(Token::Word(word)) if word == "in") => {
                    self.next += 1;
                    Operator::In
                }
                None => return Some(left),
            };
            left = Expr::Binary(operator, Box::new(left), Box::new(self.unary()?));
        }
    }

    fn unary(&mut self) -> Option<Expr> {
        if self.sign("!") {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return None;
            }
            let inner = self.unary()?;
            self.depth -= 1;
            return Some(Expr::Not(Box::new(inner)));
        }
        let mut expr = self.primary()?;
        loop {
            if self.sign(".") {
                let field = self.word()?;
                // A method such as `startsWith()` is beyond what is known here.
                if self.sign("(") {
                    return None;
                }
                expr = Expr::Field(Box::new(expr), field);
            } else if self.sign("[") {
                let index = self.or()?;
                expr = self.sign("]").then(|| Expr::Index(Box::new(expr), Box::new(index)))?;
            } else {
                return Some(expr);
            }
        }
    }

    fn primary(&mut self) -> Option<Expr> {
        if self.sign("(") {
            let inner = self.or()?;
            return self.sign(")").then_some(inner);
        }
        if self.sign("[") {
            return self.list("]").map(Expr::List);
        }
        if let Some(Token::Literal(value)) = self.tokens.get(self.next) {
            let value = value.clone();
            self.next += 1;
            return Some(Expr::Literal(value));
        }
        match self.word()?.as_str() {
            "self" => Some(Expr::Subject),
            function @ ("has" | "size") if self.sign("(") => {
                let mut arguments = self.list(")")?;
                let argument = arguments.pop().filter(|_| arguments.is_empty())?;
                match (function, argument) {
                    ("has", Expr::Field(object, field)) => Some(Expr::Has(object, field)),
                    ("size", argument) => Some(Expr::Size(Box::new(argument))),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn list(&mut self, end: &str) -> Option<Vec<Expr>> {
        let mut items = Vec::new();
        if self.sign(end) {
            return Some(items);
        }
        loop {
            items.push(self.or()?);
            if self.sign(end) {
                return Some(items);
            }
            if !self.sign(",") {
                return None;
            }
        }
    }
}

fn evaluate(expr: &Expr, subject: &Value) -> Result<Value, String> {
    Ok(match expr {
        Expr::Literal(value) => value.clone(),
        Expr::Subject => subject.clone(),
        Expr::Field(object, field) => {
            let object = evaluate(object, subject)?;
            object.get(field).cloned().ok_or_else(|| format!("no such key: {field}"))?
        }
        Expr::Index(object, index) => {
            let (object, index) = (evaluate(object, subject)?, evaluate(index, subject)?);
            let found = match &index {
                Value::String(key) => object.get(key),
                other => other.as_u64().and_then(|at| object.get(usize::try_from(at).ok()?)),
            };
            found.cloned().ok_or_else(|| format!("no such key: {index}"))?
        }
        Expr::Has(object, field) => json!(evaluate(object, subject)?.get(field).is_some()),
        Expr::Size(argument) => match evaluate(argument, subject)? {
            Value::String(text) => json!(text.chars().count()),
            Value::Array(list) => json!(list.len()),
            Value::Object(map) => json!(map.len()),
            other => return Err(format!("{other} has no size")),
        },
        Expr::List(items) => {
            items.iter().map(|item| evaluate(item, subject)).collect::<Result<Vec<_>, _>>()?.into()
        }
        Expr::Not(inner) => json!(!truth(inner, subject)?),
        Expr::Binary(Operator::Or, left, right) => json!(either(left, right, subject, true)?),
        Expr::Binary(Operator::And, left, right) => json!(either(left, right, subject, false)?),
        Expr::Binary(operator, left, right) => {
            json!(compare(*operator, &evaluate(left, subject)?, &evaluate(right, subject)?)?)
        }
    })
}

fn truth(expr: &Expr, subject: &Value) -> Result<bool, String> {
    evaluate(expr, subject)?.as_bool().ok_or_else(|| "no such overload".to_owned())
}

/// `||` (decided by true) and `&&` (decided by false): one side that decides makes an error of the other irrelevant.
fn either(left: &Expr, right: &Expr, subject: &Value, deciding: bool) -> Result<bool, String> {
    let left = truth(left, subject);
    if left == Ok(deciding) {
        return Ok(deciding);
    }
    let right = truth(right, subject);
    if right == Ok(deciding) {
        return Ok(deciding);
    }
    left.and(right)
}

fn compare(operator: Operator, left: &Value, right: &Value) -> Result<bool, String> {
    let ordering = || match (left, right) {
        (Value::String(left), Value::String(right)) => Ok(left.cmp(right)),
        _ => match (left.as_f64(), right.as_f64()) {
            (Some(left), Some(right)) => {
                left.partial_cmp(&right).ok_or_else(|| "no such overload".to_owned())
            }
            _ => Err("no such overload".to_owned()),
        },
    };
    Ok(match operator {
        Operator::Equal => left == right,
        Operator::Differs => left != right,
        Operator::Less => ordering()?.is_lt(),
        Operator::LessOrEqual => ordering()?.is_le(),
        Operator::Greater => ordering()?.is_gt(),
        Operator::GreaterOrEqual => ordering()?.is_ge(),
        Operator::In => match right {
            Value::Array(list) => list.contains(left),
            Value::Object(map) => left.as_str().is_some_and(|key| map.contains_key(key)),
            _ => return Err("no such overload".to_owned()),
        },
        Operator::Or | Operator::And => return Err("no such overload".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_hold_or_do_not() {
        let subject = json!({"type": "Factor", "factor": 2, "names": ["a", "b"], "nested": {"x": "y"}});
        let table = [
            ("(self.type == 'Factor') == has(self.factor)", Ok(true)),
            ("(self.type == 'Quantity') == has(self.quantity)", Ok(true)),
            ("self.type == \"Quantity\"", Ok(false)),
            ("self.factor >= 1 && self.factor < 2", Ok(false)),
            ("size(self.names) <= 2 && 'a' in self.names", Ok(true)),
            ("self.type in ['Quantity', 'Factor']", Ok(true)),
            ("!has(self.nested.z) || self.nested.z == 1", Ok(true)),
            ("self.names[1] == 'b' && self.nested['x'] != 'z'", Ok(true)),
            ("self.missing == 1", Err("no such key: missing".to_owned())),
            ("self.missing == 1 || true", Ok(true)),
        ];
        for (source, expected) in table {
            let rule = Rule::parse(source).unwrap();
            assert_eq!(rule.holds(&subject), expected, "{source}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_evaluated() {
        for source in [
            "self.all(x, x > 1)",
            "self.a.matches('b')",
            "oldSelf.a == 1",
            "self.a +",
            "(self.a",
            "'a\\n' == self",
        ] {
            assert_eq!(Rule::parse(source), None, "{source}");
        }
        assert_eq!(Rule::parse(&"(".repeat(10_000)), None);
        assert_eq!(Rule::parse(&"!".repeat(10_000)), None);
    }
}
