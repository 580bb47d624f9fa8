//! The filter language: which runs are wanted, in one spelling for Python, the command line, the API and the page.
//!
//! ```text
//! filter     := all ("or" all)*
//! all        := one (["and"] one)*
//! one        := "not" one | "(" filter ")" | comparison | relation | short | word
//! comparison := operand op value | operand "in" "(" value ("," value)* ")"
//! op         := = != < <= > >= ~ !~                       (~: contains, whatever the case)
//! operand    := id name key project status tag notes created active step attempt number fork_step checkpoints deleted
//!             | config.KEY | METRIC | last(METRIC) | min(METRIC) | max(METRIC)
//! relation   := descendants(RUN) | ancestors(RUN) | forks(RUN) | root(RUN)
//! short      := status:VALUE and its like for = (id name key project status tag notes deleted), root:RUN for root(RUN)
//! value      := number | nan | inf | word | "text" | 2026-11-29 | 2026-11-29T10:30 | -7d
//! word       := text that must occur in name, id, key, tags, notes, project or config
//! ```
//!
//! `status = failed config.lr < 1e-4 min(val/loss) < 0.5 descendants(MMP-42)`. A metric is what it is effectively, inherited points included; its own name alone
//! means its last value. What holds spaces or operators is quoted: `"val loss" < 3`, `config."a b" = 1`.
//!
//! Two laws hold for every filter and every run: `not f` is what `f` is not, and `a != b` is `not a = b`. So a run without a value is what nothing
//! is `=`, `<` or `~`, and everything is `!=` and `!~`. Deleted runs are left out unless the filter speaks of `deleted`. What a field is worth is for whoever has an index to say; nothing here looks anything up.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

mod lexer;
mod parser;
mod show;
mod time;

pub use time::When;

/// Longest filter, in bytes.
pub const MAX_FILTER_BYTES: usize = 16 << 10;

/// Which runs are wanted. `R` is how it names runs: as a user does, or by what was found.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter<R = String> {
    /// All of these; of none: every run.
    All(Vec<Self>),
    /// Any of these.
    Any(Vec<Self>),
    /// Those that it does not hold for.
    Not(Box<Self>),
    /// Text that occurs somewhere in what a run says of itself, whatever its case.
    Word(String),
    /// A field compared with a value.
    Compare {
        /// The field.
        field: Field,
        /// How.
        comparison: Comparison,
        /// With what.
        value: Value,
    },
    /// Relatives of a run.
    Relative(Relation, R),
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// Display id; `~` and the RunId's beginning work too.
    Id,
    /// Name.
    Name,
    /// The caller's own key.
    Key,
    /// Project.
    Project,
    /// `created`, `running`, `completed`, `failed`, `stopped`, `lost`.
    Status,
    /// Any of the tags.
    Tag,
    /// Notes.
    Notes,
    /// Birth.
    Created,
    /// Newest sign of life.
    Active,
    /// Last effective step.
    Step,
    /// Launches so far.
    Attempt,
    /// Number in the project.
    Number,
    /// Where it was forked; a root has none.
    ForkStep,
    /// Complete checkpoints on its history.
    Checkpoints,
    /// `true` or `false`.
    Deleted,
    /// A config key, by its dotted path.
    Config(String),
    /// A metric.
    Metric(String, Summary),
}

/// Which value of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Summary {
    /// That of the last step.
    Last,
    /// The smallest that is a number.
    Min,
    /// The largest that is a number.
    Max,
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`; texts to the letter, numbers by value.
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `~`: contains, whatever the case.
    Contains,
    /// `!~`
    ContainsNot,
}

/// What is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// What was written without quotes and is a number; the text is kept, since a name may look like one.
    Number(f64, String),
    /// A moment.
    Time(When),
}

/// How runs are related.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Forks of it, and theirs.
    Descendants,
    /// What it was forked from, and that.
    Ancestors,
    /// Direct forks of it.
    Forks,
    /// Everything of its tree, itself included.
    Root,
}

impl<R> Filter<R> {
    /// Every run.
    pub fn everything() -> Self {
        Self::All(Vec::new())
    }

    /// Both.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::All(mut filters), Self::All(others)) => {
                filters.extend(others);
                Self::All(filters)
            }
            (Self::All(mut filters), other) => {
                filters.push(other);
                one_or(filters, Self::All)
            }
            (filter, Self::All(mut others)) => {
                others.insert(0, filter);
                one_or(others, Self::All)
            }
            (filter, other) => Self::All(vec![filter, other]),
        }
    }

    /// Whether it speaks of a field.
    pub fn mentions(&self, field: &Field) -> bool {
        match self {
            Self::All(filters) | Self::Any(filters) => {
                filters.iter().any(|filter| filter.mentions(field))
            }
            Self::Not(filter) => filter.mentions(field),
            Self::Compare { field: of, .. } => of == field,
            Self::Word(_) | Self::Relative(..) => false,
        }
    }

    /// The same, with the runs that it names found by `find`.
    ///
    /// # Errors
    /// What `find` returns.
    pub fn resolve<T>(self, find: &mut impl FnMut(R) -> Result<T>) -> Result<Filter<T>> {
        let mut all = |filters: Vec<Self>| {
            filters
                .into_iter()
                .map(|filter| filter.resolve(find))
                .collect::<Result<_>>()
        };
        Ok(match self {
            Self::All(filters) => Filter::All(all(filters)?),
            Self::Any(filters) => Filter::Any(all(filters)?),
            Self::Not(filter) => Filter::Not(Box::new(filter.resolve(find)?)),
            Self::Word(word) => Filter::Word(word),
            Self::Compare {
                field,
                comparison,
                value,
            } => Filter::Compare {
                field,
                comparison,
                value,
            },
            Self::Relative(relation, run) => Filter::Relative(relation, find(run)?),
        })
    }
}

/// The one of them, or `many` of all.
fn one_or<R>(
    mut filters: Vec<Filter<R>>,
    many: impl FnOnce(Vec<Filter<R>>) -> Filter<R>,
) -> Filter<R> {
    if filters.len() == 1 {
        return filters.remove(0);
    }
    many(filters)
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parser::parse(text)
    }
}

impl fmt::Display for Filter {
    /// The same filter in one spelling: parsing it gives an equal one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show::filter(self, f)
    }
}
