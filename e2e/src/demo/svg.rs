//! Captured lines as an SVG picture, for documents.

use std::fmt::Write;

use super::paint::{Colour, pieces, plain};

/// Size of a letter of the fonts that are asked for, in pixels at 13 px.
const LETTER: (f64, f64) = (7.83, 18.0);

/// Room around the text, in pixels.
const MARGIN: f64 = 16.0;

/// Height of the title bar, in pixels.
const BAR: f64 = 30.0;

/// A picture of a terminal with these lines, which may be coloured.
pub fn render(title: &str, lines: &[String]) -> String {
    let columns = lines.iter().map(|line| plain(line).chars().count()).max().unwrap_or(0).max(60);
    let width = columns as f64 * LETTER.0 + 2.0 * MARGIN;
    let height = lines.len() as f64 * LETTER.1 + 2.0 * MARGIN + BAR;
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        svg,
        concat!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{w:.0}" height="{h:.0}" viewBox="0 0 {w:.0} {h:.0}" "##,
            r##"font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,monospace" font-size="13">"##,
            "\n",
            r##"<rect width="100%" height="100%" rx="8" fill="#0d1117"/><circle cx="20" cy="16" r="5" fill="#ff5f57"/>"##,
            r##"<circle cx="38" cy="16" r="5" fill="#febc2e"/><circle cx="56" cy="16" r="5" fill="#28c840"/>"##,
            r##"<text x="{middle:.0}" y="20" fill="#8b949e" text-anchor="middle">{title}</text>"##,
            "\n"
        ),
        w = width,
        h = height,
        middle = width / 2.0,
        title = escape(title),
    );
    for (number, line) in lines.iter().enumerate() {
        let y = BAR + MARGIN + (number as f64 + 0.5) * LETTER.1;
        let _ = write!(svg, r#"<text y="{y:.1}" xml:space="preserve">"#);
        let mut column = 0;
        for (colour, text) in pieces(line) {
            let x = MARGIN + f64::from(column) * LETTER.0;
            let length = u32::try_from(text.chars().count()).unwrap_or(0);
            // The length is fixed, so that columns stay aligned in fonts of another width.
            let _ = write!(
                svg,
                r#"<tspan x="{x:.1}" textLength="{:.1}" fill="{}"{}>{}</tspan>"#,
                f64::from(length) * LETTER.0,
                fill(colour),
                if colour == Colour::Bold { r#" font-weight="bold""# } else { "" },
                escape(&text),
            );
            column += length;
        }
        svg.push_str("</text>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn fill(colour: Colour) -> &'static str {
    match colour {
        Colour::Plain => "#c9d1d9",
        Colour::Dim => "#8b949e",
        Colour::Bold => "#f0f6fc",
        Colour::Green => "#3fb950",
        Colour::Red => "#f85149",
        Colour::Yellow => "#d29922",
        Colour::Cyan => "#39c5cf",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_holds_the_text_and_its_colours() {
        let svg = render("a & b", &[format!(" x {}", Colour::Green.paint("1 < 2")), String::new()]);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &amp; b") && svg.contains("1 &lt; 2") && svg.contains("#3fb950"), "{svg}");
        assert_eq!(svg.matches("<text ").count(), 3);
        assert!(!svg.contains('\x1b'));
    }
}
