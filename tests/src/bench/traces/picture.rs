//! The picture of a run, as SVG: points, and their median in tenths of the axis. The same points give the same bytes.

use std::fmt::Write;

use crate::score::median;

/// Points of one kind.
pub(super) struct Series {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// Two axes from nought.
pub(super) struct Panel {
    pub title: &'static str,
    pub x: &'static str,
    pub y: &'static str,
    pub x_end: f64,
    pub y_end: f64,
    pub series: Vec<Series>,
}

/// Sizes, in units of the picture.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 50.0;
const TOP: f64 = 30.0;
const RIGHT: f64 = 15.0;
const BOTTOM: f64 = 42.0;
const COLUMNS: usize = 2;
/// Parts of the axis over which a median is taken, and the points that a part must have.
const BINS: usize = 10;
const LEAST_POINTS: usize = 5;
const GRID: usize = 5;
/// Told apart by those who do not see all colours, too (Okabe and Ito), on light and dark ground.
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];
const GREY: &str = "#808080";

/// Draws the panels, two in a row.
pub(super) fn draw(panels: &[Panel]) -> String {
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * panels.len().div_ceil(COLUMNS) as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"11\" fill=\"{GREY}\">\n"
    );
    for (n, panel) in panels.iter().enumerate() {
        let (column, row) = ((n % COLUMNS) as f64, (n / COLUMNS) as f64);
        svg += &format!("<g transform=\"translate({:.0} {:.0})\">\n", column * WIDTH, row * HEIGHT);
        svg += &panel.draw();
        svg += "</g>\n";
    }
    svg + "</svg>\n"
}

impl Panel {
    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let part = |value: f64, end: f64| (value / end).clamp(0.0, 1.0);
        let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        (LEFT + width * part(x, self.x_end), TOP + height * (1.0 - part(y, self.y_end)))
    }

    fn draw(&self) -> String {
        let mut svg = self.axes();
        for (n, series) in self.series.iter().enumerate() {
            let colour = COLOURS[n % COLOURS.len()];
            svg += &self.points(series, colour);
            svg += &self.line(series, colour);
            let x = WIDTH - RIGHT - 60.0 * (self.series.len() - n) as f64;
            text(&mut svg, (x, TOP - 10.0), "start", &format!("fill=\"{colour}\""), series.name);
        }
        svg
    }

    fn axes(&self) -> String {
        let mut svg = String::new();
        text(&mut svg, (LEFT, TOP - 10.0), "start", "font-weight=\"bold\"", self.title);
        for n in 0..=GRID {
            let part = n as f64 / GRID as f64;
            let (x, y) = (self.x_end * part, self.y_end * part);
            let (left, at) = self.place((0.0, y));
            let (right, _) = self.place((self.x_end, y));
            // Writing to a string cannot fail.
            let _ = writeln!(
                svg,
                "<path d=\"M{left:.1} {at:.1}H{right:.1}\" stroke=\"{GREY}\" stroke-opacity=\"0.3\"/>"
            );
            text(&mut svg, (left - 6.0, at + 4.0), "end", "", &label(y, self.y_end));
            let (at, bottom) = self.place((x, 0.0));
            text(&mut svg, (at, bottom + 15.0), "middle", "", &label(x, self.x_end));
        }
        let middle = self.place((self.x_end / 2.0, 0.0));
        text(&mut svg, (middle.0, middle.1 + 32.0), "middle", "", self.x);
        let (_, half) = self.place((0.0, self.y_end / 2.0));
        let turned = format!("transform=\"rotate(-90 12 {half:.1})\"");
        text(&mut svg, (12.0, half), "middle", &turned, self.y);
        svg
    }

    fn points(&self, series: &Series, colour: &str) -> String {
        let mut path = String::new();
        for point in series.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
            let (x, y) = self.place(*point);
            let _ = write!(path, "M{x:.1} {y:.1}h0");
        }
        format!(
            "<path d=\"{path}\" stroke=\"{colour}\" stroke-opacity=\"0.35\" stroke-width=\"2.4\" stroke-linecap=\"round\"/>\n"
        )
    }

    /// The median of each part of the axis, at its middle.
    fn line(&self, series: &Series, colour: &str) -> String {
        let mut places = Vec::new();
        for bin in 0..BINS {
            let bounds = |n: usize| self.x_end * n as f64 / BINS as f64;
            let within: Vec<f64> = series
                .points
                .iter()
                .filter(|(x, y)| (bounds(bin)..bounds(bin + 1)).contains(x) && y.is_finite())
                .map(|(_, y)| *y)
                .collect();
            if within.len() >= LEAST_POINTS {
                let (x, y) = self.place(((bounds(bin) + bounds(bin + 1)) / 2.0, median(&within)));
                places.push(format!("{x:.1},{y:.1}"));
            }
        }
        format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
            places.join(" ")
        )
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, more: &str, words: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {more}>{words}</text>");
}

/// A number on an axis that ends at `end`.
fn label(value: f64, end: f64) -> String {
    if end <= 1.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_points_give_the_same_picture_and_none_leaves_it() {
        let panel = || Panel {
            title: "title",
            x: "x",
            y: "y",
            x_end: 10.0,
            y_end: 1.0,
            series: vec![Series {
                name: "name",
                points: (0..30)
                    .map(|n| (f64::from(n), f64::from(n) / 10.0))
                    .chain([(1.0, f64::NAN)])
                    .collect(),
            }],
        };
        let svg = draw(&[panel()]);
        assert_eq!(svg, draw(&[panel()]));
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
        assert_eq!(svg.matches("h0").count(), 30);
    }
}
