//! Small bar charts, as SVG inside the page: no script, no font, no picture from elsewhere. What is counted is `figures`' business.

use maud::{Markup, html};

use super::figures::{Figure, Figures, Unit};
use super::language::Language;

const WIDTH: u64 = 640;
const HEIGHT: u64 = 70;
const LEFT: u64 = 46;
const TOP: u64 = 8;
const FLOOR: u64 = HEIGHT - 18;
/// As many labels as fit below a chart.
const LABELS: usize = 8;

/// What a chart shows.
pub struct Chart<'a> {
    /// Its title.
    pub title: &'a str,
    /// What it counts.
    pub of: fn(&Figure) -> u64,
    /// The class of its bars.
    pub class: &'static str,
}

/// Draws one. Its numbers stand in the table of figures too, for who cannot see it.
pub fn draw(figures: &Figures, chart: &Chart<'_>, language: Language) -> Markup {
    let all = &figures.figures;
    let sum: u64 = all.iter().map(chart.of).sum();
    let most = nice(all.iter().map(chart.of).max().unwrap_or(0));
    let step = ((WIDTH - LEFT) * 10 / (all.len().max(1) as u64)).max(1);
    let every = all.len().div_ceil(LABELS).max(1);
    html! {
        figure class="chart" {
            figcaption {
                strong { (chart.title) }
                span class="sum" { (language.of("samen ", "in all ")) (language.number(sum)) }
            }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label={ (chart.title) ": " (language.number(sum)) } {
                line class="axis" x1=(LEFT) y1=(FLOOR) x2=(WIDTH) y2=(FLOOR) {}
                line class="grid" x1=(LEFT) y1=(TOP) x2=(WIDTH) y2=(TOP) {}
                text class="scale" x=(LEFT - 6) y=(TOP + 4) text-anchor="end" { (language.number(most)) }
                text class="scale" x=(LEFT - 6) y=(FLOOR) text-anchor="end" { "0" }
                @for (index, figure) in all.iter().enumerate() {
                    @let (count, x) = ((chart.of)(figure), LEFT * 10 + step * (index as u64));
                    @if count > 0 {
                        @let height = bar(count, most);
                        rect class=(chart.class) x=(tenths(x + step / 8)) y=(tenths(FLOOR * 10 - height))
                            width=(tenths((step * 3 / 4).clamp(4, 280))) height=(tenths(height)) {
                            title { (label(figure, figures.unit, language)) ": " (language.number(count)) }
                        }
                    }
                    @if index.is_multiple_of(every) {
                        text class="scale" x=(tenths(x + step / 8)) y=(HEIGHT - 5) { (label(figure, figures.unit, language)) }
                    }
                }
            }
        }
    }
}

/// What a figure stands for, short.
pub fn label(figure: &Figure, unit: Unit, language: Language) -> String {
    let day = figure.from;
    match unit {
        Unit::Day | Unit::Week => match language {
            Language::Nl => format!("{}/{}", day.day(), day.month()),
            Language::En => format!("{:02}-{:02}", day.month(), day.day()),
        },
        Unit::Month => format!("{:02}/{}", day.month(), day.year()),
    }
}

/// What one bar stands for.
pub fn unit(unit: Unit, language: Language) -> &'static str {
    match unit {
        Unit::Day => language.of("per dag", "per day"),
        Unit::Week => language.of("per week", "per week"),
        Unit::Month => language.of("per maand", "per month"),
    }
}

/// In tenths. What is counted is seen, be it one of a million.
fn bar(count: u64, most: u64) -> u64 {
    let room = (FLOOR - TOP) * 10;
    let height = u128::from(room) * u128::from(count) / u128::from(most.max(1));
    u64::try_from(height).unwrap_or(room).max(15)
}

/// The next 1, 2 or 5 with noughts: a number that reads well beside an axis.
fn nice(most: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for step in [1, 2, 5] {
            match power.checked_mul(step) {
                Some(top) if top >= most => return top,
                Some(_) => {}
                None => return most,
            }
        }
        power = power.saturating_mul(10);
    }
}

fn tenths(number: u64) -> String {
    format!("{}.{}", number / 10, number % 10)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::super::figures::Counted;
    use super::*;

    #[test]
    fn a_scale_ends_at_a_number_that_reads_well_and_holds_the_highest_bar() {
        for (most, top) in
            [(0, 1), (1, 1), (3, 5), (11, 20), (51, 100), (1_000_000, 1_000_000), (u64::MAX, u64::MAX)]
        {
            assert_eq!(nice(most), top);
            assert!(bar(most, top) <= (FLOOR - TOP) * 10);
        }
        assert!(bar(1, 1_000_000) > 0);
    }

    #[test]
    fn each_day_that_counts_is_a_bar_that_says_its_number() {
        let mut figures = Figures::over(date(2026, 11, 1), date(2026, 11, 30));
        for day in [3, 3, 17] {
            figures.count(date(2026, 11, day), Counted::Delivery);
        }
        let chart = Chart { title: "Bestanden", of: |figure| figure.deliveries, class: "bar" };
        let drawn = draw(&figures, &chart, Language::Nl).into_string();
        assert_eq!(drawn.matches("<rect").count(), 2);
        assert!(
            drawn.contains("<title>3/11: 2</title>") && drawn.contains("<title>17/11: 1</title>"),
            "{drawn}"
        );
    }
}
