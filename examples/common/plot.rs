//! Pictures as SVG text, which needs no fonts here: the viewer's are used.

use super::Result;
use gradtape::data::metrics::ConfusionMatrix;
pub use plotters::chart::SeriesLabelPosition;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::ops::Range;

const INK: RGBColor = RGBColor(40, 44, 52);
const GRID: RGBColor = RGBColor(228, 230, 235);
const FAINT: RGBColor = RGBColor(185, 190, 200);
const COLORS: [RGBColor; 3] =
    [RGBColor(31, 90, 166), RGBColor(222, 110, 25), RGBColor(40, 140, 80)];

/// A named line through points.
#[derive(Clone)]
pub struct Series<'a> {
    pub name: &'a str,
    pub points: Vec<(f64, f64)>,
}

/// The loss of every step over epochs, and other series beside it.
pub fn loss_curve(losses: &[f64], steps_per_epoch: usize, others: &[Series]) -> Result<String> {
    // A hundred windows smooth the noise of minibatches; full batches have none.
    let window = if steps_per_epoch > 1 { losses.len().div_ceil(100) } else { 1 };
    let mean = |(i, part): (usize, &[f64])| {
        let step = i * window + part.len();
        (step as f64 / steps_per_epoch as f64, part.iter().sum::<f64>() / part.len() as f64)
    };
    let points = losses.chunks(window.max(1)).enumerate().map(mean).collect();
    let mut series = vec![Series { name: "training loss", points }];
    series.extend_from_slice(others);
    lines("Loss", ("epoch", "loss"), SeriesLabelPosition::UpperRight, &series)
}

/// How far the loss of every step is above the minimum, down to rounding.
pub fn convergence(losses: &[f64], minimum: f64) -> Result<String> {
    let above = losses.iter().zip(1..).map(|(loss, step)| (f64::from(step), loss - minimum));
    let points = above.filter(|&(_, above)| above > f64::EPSILON * minimum.abs()).collect();
    let axes = ("step", "loss above the minimum");
    let series = Series { name: "loss", points };
    lines("Convergence", axes, SeriesLabelPosition::UpperRight, &[series])
}

/// Lines over common axes. The scale is logarithmic if they span more than a factor of 100.
pub fn lines(
    title: &str,
    axes: (&str, &str),
    legend: SeriesLabelPosition,
    series: &[Series],
) -> Result<String> {
    let points = || series.iter().flat_map(|s| &s.points);
    let x = range(points().map(|p| p.0));
    let y = range(points().map(|p| p.1));
    drawing((720, 440), |area| match y.start > 0.0 && y.end > 100.0 * y.start {
        true => {
            let y = (y.start / 1.5..y.end * 1.5).log_scale();
            draw_lines(area, title, axes, x, y, legend, series)
        }
        false => draw_lines(area, title, axes, x, padded(y), legend, series),
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw_lines<Y>(
    area: &Area,
    title: &str,
    axes: (&str, &str),
    x: Range<f64>,
    y: Y,
    legend: SeriesLabelPosition,
    series: &[Series],
) -> Result
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(title, text(22))
        .margin(14)
        .x_label_area_size(46)
        .y_label_area_size(78)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(axes.0)
        .y_desc(axes.1)
        .label_style(text(15))
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .x_labels(11)
        .y_labels(8)
        .x_label_formatter(&|x| short(*x))
        .y_label_formatter(&|y| short(*y))
        .draw()?;
    for (series, color) in series.iter().zip(COLORS) {
        let line = LineSeries::new(series.points.iter().copied(), color.stroke_width(2));
        chart
            .draw_series(line)?
            .label(series.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], color.stroke_width(2)));
    }
    if series.len() > 1 {
        chart
            .configure_series_labels()
            .position(legend)
            .background_style(WHITE.mix(0.85))
            .border_style(GRID)
            .label_font(text(15))
            .draw()?;
    }
    Ok(())
}

/// Predictions over the truth, with the line on which both are equal.
pub fn predicted_against_true(what: &str, truth: &[f64], predicted: &[f64]) -> Result<String> {
    let both = padded(range(truth.iter().chain(predicted).copied()));
    drawing((560, 560), |area| {
        let mut chart = ChartBuilder::on(area)
            .caption("Predicted against true", text(22))
            .margin(14)
            .x_label_area_size(46)
            .y_label_area_size(64)
            .build_cartesian_2d(both.clone(), both.clone())?;
        chart
            .configure_mesh()
            .x_desc(format!("true {what}"))
            .y_desc(format!("predicted {what}"))
            .label_style(text(15))
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .x_label_formatter(&|x| short(*x))
            .y_label_formatter(&|y| short(*y))
            .draw()?;
        let equal = [(both.start, both.start), (both.end, both.end)];
        chart.draw_series(LineSeries::new(equal, INK.mix(0.5)))?;
        let dot = |(&t, &p)| Circle::new((t, p), 3, COLORS[0].mix(0.55).filled());
        chart.draw_series(truth.iter().zip(predicted).map(dot))?;
        Ok(())
    })
}

/// The counts of a confusion matrix, a cell for each pair of classes.
pub fn confusion(matrix: &ConfusionMatrix, names: &[String]) -> Result<String> {
    let n = names.len() as i32;
    let cell = (440 / n.max(1)).clamp(40, 90);
    // Names stand side by side above the columns.
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let above = (cell as u32 * 2 / longest.max(1) as u32).clamp(9, 15);
    let (left, top) = (130, 90);
    let size = ((left + n * cell + 30) as u32, (top + n * cell + 60) as u32);
    let centered = |size, color| text(size).color(color).pos(Pos::new(HPos::Center, VPos::Center));
    drawing(size, |area| {
        let middle = left + n * cell / 2;
        area.draw_text("Confusion matrix", &centered(22, &INK), (middle, 28))?;
        area.draw_text("predicted class", &centered(16, &INK), (middle, top + n * cell + 28))?;
        let upright = centered(16, &INK).transform(FontTransform::Rotate270);
        area.draw_text("true class", &upright, (24, top + n * cell / 2))?;
        for t in 0..n {
            let total: u64 = (0..n).map(|p| matrix.count(t as usize, p as usize)).sum();
            let (x, y) = (left + t * cell + cell / 2, top + t * cell + cell / 2);
            let beside = text(15).color(&INK).pos(Pos::new(HPos::Right, VPos::Center));
            area.draw_text(&names[t as usize], &beside, (left - 10, y))?;
            area.draw_text(&names[t as usize], &centered(above, &INK), (x, top - 14))?;
            for p in 0..n {
                let count = matrix.count(t as usize, p as usize);
                // A square root, so that single mistakes can be seen.
                let share = (count as f64 / total.max(1) as f64).sqrt();
                let color = if t == p { COLORS[0] } else { COLORS[1] };
                let (x, y) = (left + p * cell, top + t * cell);
                let corners = [(x, y), (x + cell, y + cell)];
                area.draw(&Rectangle::new(corners, color.mix(share).filled()))?;
                area.draw(&Rectangle::new(corners, GRID.stroke_width(1)))?;
                let ink = match count {
                    0 => &FAINT,
                    _ if share > 0.6 => &WHITE,
                    _ => &INK,
                };
                let at = (x + cell / 2, y + cell / 2);
                area.draw_text(&count.to_string(), &centered(16, ink), at)?;
            }
        }
        Ok(())
    })
}

/// Names of classes that have numbers.
pub fn names(classes: Range<usize>) -> Vec<String> {
    classes.map(|class| class.to_string()).collect()
}

/// An SVG text of this size in pixels.
fn drawing(size: (u32, u32), draw: impl FnOnce(&Area) -> Result) -> Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    area.fill(&WHITE)?;
    draw(&area)?;
    area.present()?;
    drop(area);
    Ok(svg)
}

fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_text_style(&(size, size)).color(&INK)
}

/// From the smallest to the largest number that is finite.
fn range(numbers: impl Iterator<Item = f64>) -> Range<f64> {
    let finite = numbers.filter(|x| x.is_finite());
    let (low, high) =
        finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    match low < high {
        true => low..high,
        false if low.is_finite() => low - 0.5..high + 0.5,
        false => 0.0..1.0,
    }
}

fn padded(range: Range<f64>) -> Range<f64> {
    let margin = 0.04 * (range.end - range.start);
    range.start - margin..range.end + margin
}

/// A tick's label.
fn short(x: f64) -> String {
    match x.abs() {
        size if size == 0.0 || (1e-3..1e5).contains(&size) => {
            let text = format!("{x:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_string()
        }
        _ => format!("{x:.0e}"),
    }
}
