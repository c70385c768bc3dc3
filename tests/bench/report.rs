//! Medians, ratios, and how they are shown.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// Whether more or less of it is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

/// What was measured, in the order in which it first was.
pub(crate) struct Report {
    carriers: Vec<&'static str>,
    /// The pairs whose ratios are shown.
    ratios: &'static [[&'static str; 2]],
    metrics: Vec<Metric>,
}

struct Metric {
    name: &'static str,
    better: Better,
    /// For each carrier, a value a round.
    values: Vec<Vec<f64>>,
}

impl Report {
    pub(crate) fn new(carriers: Vec<&'static str>, ratios: &'static [[&'static str; 2]]) -> Self {
        Self {
            carriers,
            ratios,
            metrics: Vec::new(),
        }
    }

    pub(crate) fn add(
        &mut self,
        carrier: &'static str,
        name: &'static str,
        better: Better,
        value: f64,
    ) {
        let of = self
            .carriers
            .iter()
            .position(|one| *one == carrier)
            .unwrap();
        let metric = match self.metrics.iter().position(|metric| metric.name == name) {
            Some(at) => &mut self.metrics[at],
            None => {
                let values = vec![Vec::new(); self.carriers.len()];
                self.metrics.push(Metric {
                    name,
                    better,
                    values,
                });
                self.metrics.last_mut().unwrap()
            }
        };
        metric.values[of].push(value);
    }

    /// A table in Markdown: medians, with the lowest and the highest value, and ratios of pairs of
    /// one round.
    pub(crate) fn print(&self) {
        print!("\n| |");
        for carrier in &self.carriers {
            print!(" {carrier} |");
        }
        for [one, other] in self.ratios {
            print!(" {one} / {other} |");
        }
        println!();
        let columns = self.carriers.len() + self.ratios.len();
        println!("|---|{}", "---|".repeat(columns));
        for metric in &self.metrics {
            print!("| {} |", metric.name);
            for values in &metric.values {
                match Spread::of(values) {
                    Some(Spread { low, median, high }) => {
                        print!(
                            " **{}** ({} - {}) |",
                            short(median),
                            short(low),
                            short(high)
                        );
                    }
                    None => print!(" |"),
                }
            }
            for pair in self.ratios {
                match self.ratio(metric, *pair) {
                    Some(Spread { low, median, high }) => {
                        print!(" **{median:.2}** ({low:.2} - {high:.2}) |");
                    }
                    None => print!(" |"),
                }
            }
            println!();
        }
    }

    /// How many times what the other has one has, round by round.
    fn ratio(&self, metric: &Metric, [one, other]: [&str; 2]) -> Option<Spread> {
        let values = |name| {
            let at = self.carriers.iter().position(|one| *one == name);
            at.map(|at| metric.values[at].as_slice())
        };
        let pairs = values(one)?.iter().zip(values(other)?);
        let ratios = pairs.map(|(ours, theirs)| ours / theirs);
        let ratios: Vec<_> = ratios.filter(|ratio| ratio.is_finite()).collect();
        Spread::of(&ratios)
    }

    /// Writes all values to NAME.json, and a picture of the `charted` metrics
    /// to NAME.svg.
    pub(crate) fn write(&self, name: &str, charted: &[&str]) {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../bench");
        fs::create_dir_all(&directory).unwrap();
        let directory = directory.canonicalize().unwrap();
        let put = |file: &str, text: &str| {
            let path: PathBuf = directory.join(file);
            fs::write(&path, text).unwrap();
            println!("{}", path.display());
        };
        println!();
        let json: serde_json::Map<_, _> = self
            .metrics
            .iter()
            .map(|metric| {
                let of_carriers: serde_json::Map<_, _> = self
                    .carriers
                    .iter()
                    .zip(&metric.values)
                    .map(|(name, values)| ((*name).to_owned(), serde_json::json!(values)))
                    .collect();
                (metric.name.to_owned(), of_carriers.into())
            })
            .collect();
        let json = serde_json::to_string_pretty(&json).unwrap();
        put(&format!("{name}.json"), &json);
        if !charted.is_empty() {
            put(&format!("{name}.svg"), &self.chart(charted));
        }
    }

    /// Bars, as long as the medians are compared to the longest.
    fn chart(&self, charted: &[&str]) -> String {
        // The others are for those who work on xlatd: the table has them.
        const COLOURS: [(&str, &str); 4] = [
            ("kernel, no translation", "#9aa0a6"),
            ("tayga", "#d9822b"),
            ("xlatd", "#2b6cb0"),
            ("xlatd, offload no", "#90b4d8"),
        ];
        let mut svg = String::new();
        let mut y = 24;
        for metric in self
            .metrics
            .iter()
            .filter(|metric| charted.contains(&metric.name))
        {
            writeln!(
                svg,
                "<text x=\"8\" y=\"{y}\" font-weight=\"bold\">{}</text>",
                metric.name
            )
            .unwrap();
            y += 10;
            let bars = COLOURS.iter().filter_map(|&(carrier, colour)| {
                let at = self.carriers.iter().position(|one| *one == carrier)?;
                let median = Spread::of(&metric.values[at])?.median;
                Some((carrier, colour, median))
            });
            let bars: Vec<_> = bars.collect();
            let most = bars.iter().map(|(_, _, median)| *median);
            let most = most.fold(f64::MIN_POSITIVE, f64::max);
            for (carrier, colour, median) in bars {
                let width = (median / most * 420.0).max(1.0);
                writeln!(
                    svg,
                    "<text x=\"168\" y=\"{}\" text-anchor=\"end\">{carrier}</text>\
                     <rect x=\"176\" y=\"{y}\" width=\"{width:.0}\" height=\"16\" fill=\"{colour}\"/>\
                     <text x=\"{:.0}\" y=\"{}\">{}</text>",
                    y + 13,
                    width + 182.0,
                    y + 13,
                    short(median)
                )
                .unwrap();
                y += 20;
            }
            y += 24;
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"680\" height=\"{y}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{svg}</svg>\n"
        )
    }
}

/// The middle of some values, and their ends.
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        } else {
            sorted[middle]
        };
        Some(Self { low, median, high })
    }
}

/// With three digits or so.
fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
