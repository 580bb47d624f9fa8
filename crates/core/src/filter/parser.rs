//! Words and signs into a filter.

use super::lexer::{Kind, Token, tokens};
use super::{Comparison, Field, Filter, MAX_FILTER_BYTES, Relation, Summary, Value, When, one_or};
use crate::error::{Error, Result};

/// Deepest nesting of parentheses and `not`.
const MAX_DEPTH: usize = 64;

const HINT: &str =
    "like: status = failed and config.lr < 1e-4 and min(val/loss) < 0.5; quote what holds spaces";

pub(super) fn parse(text: &str) -> Result<Filter> {
    if text.len() > MAX_FILTER_BYTES {
        return Err(Error::invalid(format!(
            "a filter has at most {MAX_FILTER_BYTES} bytes, this one {}",
            text.len()
        )));
    }
    let mut parser = Parser {
        tokens: tokens(text).map_err(|error| error.with_hint(HINT))?,
        next: 0,
    };
    if parser.tokens.is_empty() {
        return Ok(Filter::everything());
    }
    let filter = parser.any(0)?;
    match parser.peek() {
        None => Ok(filter),
        Some(_) => Err(parser.unexpected("and, or, or the end")),
    }
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
}

impl Parser {
    fn any(&mut self, depth: usize) -> Result<Filter> {
        if depth > MAX_DEPTH {
            return Err(Error::invalid(format!(
                "the filter is nested more than {MAX_DEPTH} deep"
            )));
        }
        let mut filters = vec![self.all(depth)?];
        while self.take_keyword("or") {
            filters.push(self.all(depth)?);
        }
        Ok(one_or(filters, Filter::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Filter> {
        let mut filters = vec![self.one(depth)?];
        while self.take_keyword("and")
            || self.peek().is_some_and(|kind| *kind != Kind::Close) && !self.is_keyword("or")
        {
            filters.push(self.one(depth)?);
        }
        Ok(one_or(filters, Filter::All))
    }

    fn one(&mut self, depth: usize) -> Result<Filter> {
        if depth > MAX_DEPTH {
            return Err(Error::invalid(format!(
                "the filter is nested more than {MAX_DEPTH} deep"
            )));
        }
        if self.take_keyword("not") {
            return Ok(Filter::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take(&Kind::Open) {
            let filter = self.any(depth + 1)?;
            self.expect_close()?;
            return Ok(filter);
        }
        if ["and", "or", "in"].iter().any(|word| self.is_keyword(word)) {
            return Err(self.unexpected("a condition"));
        }
        let start = self.next;
        let Some(word) = self.take_text() else {
            return Err(self.unexpected("a condition"));
        };
        if !word.quoted && self.is_call() {
            if let Some(relation) = relation(&word.text) {
                self.next += 1;
                let run = self.argument("a run")?;
                return Ok(Filter::Relative(relation, run));
            }
            if summary(&word.text).is_none() {
                self.next = start;
                return Err(self.unexpected(
                    "last(…), min(…), max(…), descendants(…), ancestors(…), forks(…) or root(…)",
                ));
            }
        }
        if let Some(filter) = self.short(&word)? {
            return Ok(filter);
        }
        let field = self.field(&word)?;
        let Some(field) = field else {
            return Ok(Filter::Word(word.text));
        };
        self.comparison(field)
    }

    /// `status:failed`, `tag:"two words"`, `root:MMP-42`.
    fn short(&mut self, word: &Text) -> Result<Option<Filter>> {
        let Some((before, after)) = word.text.split_once(':').filter(|_| !word.quoted) else {
            return Ok(None);
        };
        let value = match after {
            "" if self.is_joined_quote() => self.take_text().map(|text| text.text),
            "" => None,
            after => Some(after.to_owned()),
        };
        let field = match before {
            "root" => None,
            "id" | "name" | "key" | "project" | "status" | "tag" | "notes" | "deleted" => {
                Some(field(before))
            }
            _ => return Ok(None),
        };
        let Some(value) = value else {
            return Err(self.unexpected("a value after :"));
        };
        let Some(field) = field else {
            return Ok(Some(Filter::Relative(Relation::Root, value)));
        };
        let value = Value::Text(value);
        check(&field, Comparison::Equal, &value)?;
        Ok(Some(Filter::Compare {
            field,
            comparison: Comparison::Equal,
            value,
        }))
    }

    /// The operand that begins with `word`, if an operator or `in` follows.
    fn field(&mut self, word: &Text) -> Result<Option<Field>> {
        let named = if !word.quoted && self.is_call() {
            self.next += 1;
            let metric = self.argument("a metric")?;
            let summary = summary(&word.text).unwrap_or(Summary::Last);
            Some(Field::Metric(metric, summary))
        } else if word.quoted {
            Some(Field::Metric(word.text.clone(), Summary::Last))
        } else if word.text == "config." && self.is_joined_quote() {
            self.take_text().map(|key| Field::Config(key.text))
        } else {
            Some(field(&word.text))
        };
        let compares = matches!(self.peek(), Some(Kind::Operator(_))) || self.is_keyword("in");
        match named {
            Some(_) if compares => Ok(named),
            // A function, or `config."…"`, is no word.
            Some(Field::Metric(_, _)) if !word.quoted && self.was_call() => {
                Err(self.unexpected("a comparison"))
            }
            Some(Field::Config(_)) if word.text == "config." => {
                Err(self.unexpected("a comparison"))
            }
            _ => Ok(None),
        }
    }

    fn comparison(&mut self, field: Field) -> Result<Filter> {
        if self.take_keyword("in") {
            if !self.take(&Kind::Open) {
                return Err(self.unexpected("( and values"));
            }
            let mut filters = Vec::new();
            loop {
                let value = self.value(&field)?;
                check(&field, Comparison::Equal, &value)?;
                filters.push(Filter::Compare {
                    field: field.clone(),
                    comparison: Comparison::Equal,
                    value,
                });
                if !self.take(&Kind::Comma) {
                    break;
                }
            }
            self.expect_close()?;
            return Ok(one_or(filters, Filter::Any));
        }
        let Some(Kind::Operator(operator)) = self.peek() else {
            return Err(self.unexpected("a comparison"));
        };
        let comparison = comparison(operator);
        self.next += 1;
        let value = self.value(&field)?;
        check(&field, comparison, &value)?;
        Ok(Filter::Compare {
            field,
            comparison,
            value,
        })
    }

    fn value(&mut self, field: &Field) -> Result<Value> {
        let Some(word) = self.take_text() else {
            return Err(self.unexpected("a value"));
        };
        if matches!(field, Field::Created | Field::Active) {
            return When::parse(&word.text).map(Value::Time).ok_or_else(|| {
                Error::invalid(format!("{:?} is not a time", word.text)).with_hint(
                    "write 2026-11-29, 2026-11-29T10:30 (UTC), or -7d for seven days ago",
                )
            });
        }
        if word.quoted {
            return Ok(Value::Text(word.text));
        }
        Ok(match number(&word.text) {
            Some(number) => Value::Number(number, word.text),
            None => Value::Text(word.text),
        })
    }

    /// What stands in the parentheses that were opened: any tokens but `)`, as they are written.
    fn argument(&mut self, what: &str) -> Result<String> {
        let start = self.next;
        let mut text = String::new();
        while let Some(token) = self.tokens.get(self.next) {
            if token.kind == Kind::Close {
                break;
            }
            if self.next > start && !token.joined {
                text.push(' ');
            }
            match &token.kind {
                Kind::Word(word) | Kind::Quoted(word) => text.push_str(word),
                Kind::Operator(operator) => text.push_str(operator),
                Kind::Comma => text.push(','),
                Kind::Open | Kind::Close => return Err(self.unexpected(what)),
            }
            self.next += 1;
        }
        if self.next == start {
            return Err(self.unexpected(what));
        }
        self.expect_close()?;
        Ok(text)
    }

    fn take_text(&mut self) -> Option<Text> {
        let text = match self.peek()? {
            Kind::Word(word) => Text {
                text: word.clone(),
                quoted: false,
            },
            Kind::Quoted(word) => Text {
                text: word.clone(),
                quoted: true,
            },
            _ => return None,
        };
        self.next += 1;
        Some(text)
    }

    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn take(&mut self, kind: &Kind) -> bool {
        let found = self.peek() == Some(kind);
        self.next += usize::from(found);
        found
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self.peek(), Some(Kind::Word(word)) if word.eq_ignore_ascii_case(keyword))
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(keyword);
        self.next += usize::from(found);
        found
    }

    /// Whether parentheses follow the word before directly, as in `min(`.
    fn is_call(&self) -> bool {
        self.tokens
            .get(self.next)
            .is_some_and(|token| token.kind == Kind::Open && token.joined)
    }

    fn was_call(&self) -> bool {
        self.next > 0 && self.tokens[self.next - 1].kind == Kind::Close
    }

    fn is_joined_quote(&self) -> bool {
        self.tokens
            .get(self.next)
            .is_some_and(|token| token.joined && matches!(token.kind, Kind::Quoted(_)))
    }

    fn expect_close(&mut self) -> Result<()> {
        if self.take(&Kind::Close) {
            return Ok(());
        }
        Err(self.unexpected(")"))
    }

    fn unexpected(&self, wanted: &str) -> Error {
        let place = match self.tokens.get(self.next) {
            Some(token) => format!("at character {} of the filter", token.at),
            None => "at the end of the filter".to_owned(),
        };
        Error::invalid(format!("{wanted} was expected {place}")).with_hint(HINT)
    }
}

/// A word or a text in quotes.
struct Text {
    text: String,
    quoted: bool,
}

/// What a word without quotes is called.
fn field(word: &str) -> Field {
    match word {
        "id" => Field::Id,
        "name" => Field::Name,
        "key" => Field::Key,
        "project" => Field::Project,
        "status" => Field::Status,
        "tag" | "tags" => Field::Tag,
        "notes" => Field::Notes,
        "created" => Field::Created,
        "active" => Field::Active,
        "step" => Field::Step,
        "attempt" => Field::Attempt,
        "number" => Field::Number,
        "fork_step" => Field::ForkStep,
        "checkpoints" => Field::Checkpoints,
        "deleted" => Field::Deleted,
        _ => match word.strip_prefix("config.") {
            Some(key) => Field::Config(key.to_owned()),
            None => Field::Metric(word.to_owned(), Summary::Last),
        },
    }
}

pub(super) fn summary(word: &str) -> Option<Summary> {
    Some(match word {
        "last" => Summary::Last,
        "min" => Summary::Min,
        "max" => Summary::Max,
        _ => return None,
    })
}

fn relation(word: &str) -> Option<Relation> {
    Some(match word {
        "descendants" => Relation::Descendants,
        "ancestors" => Relation::Ancestors,
        "forks" | "forked_from" => Relation::Forks,
        "root" => Relation::Root,
        _ => return None,
    })
}

fn comparison(operator: &str) -> Comparison {
    match operator {
        "=" => Comparison::Equal,
        "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        "~" => Comparison::Contains,
        _ => Comparison::ContainsNot,
    }
}

/// A number as `float` in Python reads one, but for `_` and a sign of its own on `nan`.
fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

/// Refuses what can never be meant.
fn check(field: &Field, comparison: Comparison, value: &Value) -> Result<()> {
    use Comparison::{Contains, ContainsNot, Equal, NotEqual};
    let is_number = matches!(value, Value::Number(..));
    let contains = matches!(comparison, Contains | ContainsNot);
    match field {
        Field::Step
        | Field::Attempt
        | Field::Number
        | Field::ForkStep
        | Field::Checkpoints
        | Field::Metric(..)
            if !is_number || contains =>
        {
            Err(Error::invalid(format!(
                "{} is a number: compare it with one, by = != < <= > or >=",
                super::show::field(field)
            ))
            .with_hint("config keys are written config.KEY; a name or text is searched for without an operator"))
        }
        Field::Created | Field::Active if contains => Err(Error::invalid(format!(
            "{} is a time: compare it by < <= > or >=",
            super::show::field(field)
        ))),
        Field::Id
        | Field::Name
        | Field::Key
        | Field::Project
        | Field::Status
        | Field::Tag
        | Field::Notes
            if !contains && !matches!(comparison, Equal | NotEqual) =>
        {
            Err(Error::invalid(format!(
                "{} is text: compare it by = != ~ or !~",
                super::show::field(field)
            )))
        }
        Field::Status if !contains => check_status(value),
        Field::Deleted => match (value, comparison) {
            (Value::Text(text), Equal | NotEqual) if text == "true" || text == "false" => Ok(()),
            _ => Err(Error::invalid("deleted is = true or = false")),
        },
        _ => Ok(()),
    }
}

fn check_status(value: &Value) -> Result<()> {
    let (Value::Text(text) | Value::Number(_, text)) = value else {
        return Ok(());
    };
    text.parse::<crate::event::RunStatus>().map(drop)
}
