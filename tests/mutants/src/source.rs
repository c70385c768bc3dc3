//! A source file with all its mutants, each behind a question for its number.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    ops::Range,
};

use proc_macro2::LineColumn;
use syn::{
    Arm, Block, Expr, ExprBinary, ExprMatch, ExprStruct, ExprUnary, ImplItemFn, ItemFn, Pat,
    TraitItemFn,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::list::{Genre, Mutant};

/// What was made of a file.
#[derive(Default)]
pub(crate) struct Instrumented {
    pub(crate) text: String,
    /// Where in the text the mutants are, with their numbers: those inside others, too.
    pub(crate) places: Vec<(Range<usize>, usize)>,
    /// The numbers of those that have a place.
    pub(crate) placed: BTreeSet<usize>,
}

/// Puts mutants into the text of a file. `None` if it is no Rust.
pub(crate) fn instrument(text: &str, mutants: &[&Mutant]) -> Option<Instrumented> {
    let file = syn::parse_file(text).ok()?;
    let mut finder = Finder {
        text,
        mutants,
        wraps: BTreeMap::new(),
        inserts: BTreeMap::new(),
        arms_may_fail: false,
    };
    finder.visit_file(&file);
    let wraps = finder
        .wraps
        .into_iter()
        .map(|((start, last), variants)| Wrap {
            range: start..usize::MAX - last,
            variants,
        });
    let wraps: Vec<_> = wraps.collect();
    let mut made = Instrumented::default();
    render(text, 0..text.len(), &wraps, &finder.inserts, &mut made);
    made.placed = made.places.iter().map(|(_, number)| *number).collect();
    Some(made)
}

/// An expression, and what its mutants have in its place.
struct Wrap {
    range: Range<usize>,
    variants: Vec<(usize, String)>,
}

/// Text before an octet of the file; none at the end of what a mutant is about.
struct Insert {
    mutant: Option<usize>,
    text: String,
}

type Inserts = BTreeMap<usize, Vec<Insert>>;

struct Finder<'a> {
    text: &'a str,
    mutants: &'a [&'a Mutant],
    /// By the start, and the end backwards: an expression comes before those in it.
    wraps: BTreeMap<(usize, usize), Vec<(usize, String)>>,
    inserts: Inserts,
    /// Whether the arms of the current match may all fail.
    arms_may_fail: bool,
}

impl Finder<'_> {
    fn at(&self, genre: Genre, at: LineColumn) -> impl Iterator<Item = &Mutant> {
        let place = (at.line, at.column + 1);
        let is_it = move |one: &&Mutant| one.genre == genre && one.place == place;
        self.mutants.iter().copied().filter(is_it)
    }

    fn wrap(&mut self, range: Range<usize>, variants: Vec<(usize, String)>) {
        if !variants.is_empty() {
            let key = (range.start, usize::MAX - range.end);
            self.wraps.entry(key).or_default().extend(variants);
        }
    }

    fn insert(&mut self, at: usize, mutant: Option<usize>, text: String) {
        self.inserts
            .entry(at)
            .or_default()
            .push(Insert { mutant, text });
    }

    /// The text of `whole` with that of `part` replaced.
    fn replaced(&self, whole: &Range<usize>, part: &Range<usize>, by: &str) -> String {
        let [before, after] = [whole.start..part.start, part.end..whole.end];
        format!("{}{by}{}", &self.text[before], &self.text[after])
    }

    fn body(&mut self, block: &Block) {
        let Some(first) = block.stmts.first() else {
            return;
        };
        let inserts: Vec<_> = self
            .at(Genre::Function, first.span().start())
            .map(|mutant| (mutant.number, mutant.replacement.clone()))
            .collect();
        let braces = block.brace_token.span;
        for (number, value) in inserts {
            let text = format!(" if crate::mutant({number}) {{ return {value}; }} ");
            self.insert(braces.open().byte_range().end, Some(number), text);
            self.insert(
                braces.close().byte_range().start,
                Some(number),
                String::new(),
            );
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.body(&function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.body(&function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.body(block);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_expr_binary(&mut self, binary: &'ast ExprBinary) {
        let (whole, op) = (binary.span().byte_range(), binary.op.span());
        // Patterns bind names for what comes after them, and so may not be put in brackets.
        if !has_let(&binary.left) && !has_let(&binary.right) {
            let variants = self
                .at(Genre::Binary, op.start())
                .map(|mutant| {
                    let text = self.replaced(&whole, &op.byte_range(), &mutant.replacement);
                    (mutant.number, text)
                })
                .collect();
            self.wrap(whole, variants);
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast ExprUnary) {
        let (whole, op) = (unary.span().byte_range(), unary.op.span());
        let variants = self
            .at(Genre::Unary, op.start())
            .map(|mutant| (mutant.number, self.replaced(&whole, &op.byte_range(), "")))
            .collect();
        self.wrap(whole, variants);
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_match(&mut self, expression: &'ast ExprMatch) {
        let takes_all = |arm: &Arm| match &arm.pat {
            Pat::Wild(_) => true,
            Pat::Ident(name) => name.ident.to_string().starts_with(char::is_lowercase),
            _ => false,
        };
        // Arms with guards do not count: without another one for all values there would be none.
        let outside = self.arms_may_fail;
        for arm in &expression.arms {
            self.arms_may_fail = expression.arms.iter().any(takes_all);
            self.visit_arm(arm);
        }
        self.arms_may_fail = outside;
        self.visit_expr(&expression.expr);
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        let guard = match &arm.pat {
            Pat::Guard(pattern) => Some(&pattern.guard),
            _ => None,
        };
        if let Some(guard) = guard {
            let variants = self
                .at(Genre::Guard, guard.span().start())
                .map(|mutant| (mutant.number, mutant.replacement.clone()))
                .collect();
            self.wrap(guard.span().byte_range(), variants);
        }
        let deleted = self.at(Genre::Arm, arm.span().start()).next();
        let deleted = deleted.filter(|_| self.arms_may_fail);
        if let Some(number) = deleted.map(|mutant| mutant.number) {
            if let Some(guard) = guard {
                let guard = guard.span().byte_range();
                self.insert(guard.start, None, "(".to_owned());
                self.insert(
                    guard.end,
                    Some(number),
                    format!(") && !crate::mutant({number})"),
                );
            } else {
                let at = arm.pat.span().byte_range().end;
                self.insert(at, Some(number), format!(" if !crate::mutant({number})"));
            }
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, value: &'ast ExprStruct) {
        let whole = value.span().byte_range();
        let mut variants = Vec::new();
        for field in &value.fields {
            for mutant in self.at(Genre::Field, field.span().start()) {
                let mut range = field.span().byte_range();
                // With its comma: there is a rest behind it.
                range.end += self.text[range.end..].find(',').map_or(0, |at| at + 1);
                variants.push((mutant.number, self.replaced(&whole, &range, "")));
            }
        }
        self.wrap(whole, variants);
        visit::visit_expr_struct(self, value);
    }
}

fn has_let(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

/// Appends a range of the text, with what is in it. `wraps` are all those in the range, in order.
fn render(
    text: &str,
    range: Range<usize>,
    mut wraps: &[Wrap],
    inserts: &Inserts,
    made: &mut Instrumented,
) {
    let mut done = range.start;
    // Inserts at the ends of a wrapped expression are outside of it.
    let inside = |at: &usize| *at > range.start && *at < range.end;
    let mut points: Vec<usize> = inserts.keys().copied().filter(inside).collect();
    points.push(range.end);
    let mut points = points.into_iter().peekable();
    while let Some(point) = points.next() {
        while let Some((wrap, rest)) = wraps.split_first() {
            if wrap.range.start >= point {
                break;
            }
            let inner = rest
                .iter()
                .take_while(|one| one.range.end <= wrap.range.end)
                .count();
            let (inner, rest) = rest.split_at(inner);
            made.text.push_str(&text[done..wrap.range.start]);
            made.wrap(text, wrap, inner, inserts);
            (done, wraps) = (wrap.range.end, rest);
            while points.peek().is_some_and(|at| *at < done) {
                points.next(); // it was inside
            }
        }
        if point >= done {
            made.text.push_str(&text[done..point]);
            done = point;
            if point < range.end {
                made.inserts(&inserts[&point]);
            }
        }
    }
}

impl Instrumented {
    fn wrap(&mut self, text: &str, wrap: &Wrap, inner: &[Wrap], inserts: &Inserts) {
        self.text.push('(');
        for (number, variant) in &wrap.variants {
            let start = self.text.len();
            let _ = write!(
                self.text,
                "if crate::mutant({number}) {{ {variant} }} else "
            );
            self.places.push((start..self.text.len(), *number));
        }
        let start = self.text.len();
        self.text.push_str("{ ");
        render(text, wrap.range.clone(), inner, inserts, self);
        self.text.push_str(" })");
        for (number, _) in &wrap.variants {
            self.places.push((start..self.text.len(), *number));
        }
    }

    fn inserts(&mut self, inserts: &[Insert]) {
        for insert in inserts {
            let mut start = self.text.len();
            self.text.push_str(&insert.text);
            let Some(number) = insert.mutant else {
                continue;
            };
            if insert.text.is_empty()
                && let Some((begin, _)) = self.places.iter().find(|(_, it)| *it == number)
            {
                start = begin.start;
            }
            self.places.push((start..self.text.len(), number));
        }
    }
}
