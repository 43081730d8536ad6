//! From words to what they ask for.

use super::brief::{Season, Setting, Style, Thing, Things, Time};
use super::colour::Lch;
use super::rng::Rng;
use super::words::{Meaning, colour, meanings};

/// All the words of one text, sorted by what they ask for.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) settings: Vec<Setting>,
    pub(super) abstracted: bool,
    pub(super) styles: Vec<Style>,
    pub(super) hints: Vec<Style>,
    pub(super) times: Vec<Time>,
    pub(super) seasons: Vec<Season>,
    pub(super) things: Things,
    pub(super) colours: Vec<Lch>,
    pub(super) painted: Vec<(Thing, Lch)>,
    pub(super) chroma: f32,
    pub(super) lightness: f32,
    pub(super) monochrome: bool,
    /// Words after "no" or "without".
    pub(super) refused: Vec<String>,
}

impl Reading {
    /// Sorts `words`; the longest phrase that is known wins.
    pub(super) fn of(words: &[String]) -> Self {
        Self::read(words, false)
    }

    /// Sorts words of what is not wanted.
    pub(super) fn of_refusal(words: &[String]) -> Self {
        Self::read(words, true)
    }

    fn read(words: &[String], refused: bool) -> Self {
        let mut reading = Self::default();
        let mut at = 0;
        let mut pending: Option<(usize, Lch)> = None;
        while at < words.len() {
            if matches!(words[at].as_str(), "no" | "without" | "not" | "never") {
                reading.refused.extend(words[at + 1..].iter().take(1).cloned());
                at += 2;
                continue;
            }
            let (length, mut found) = longest(&words[at..]);
            if refused && found.iter().any(|meaning| matches!(meaning, Meaning::With(_))) {
                // Who wants no moon may still want the night.
                found.retain(|meaning| matches!(meaning, Meaning::With(_)));
            }
            // A flower's own colour (lavender) is said of the flower.
            let own = found.iter().find_map(|&meaning| match meaning {
                Meaning::With(thing) if thing.is_paintable() => Some(thing),
                _ => None,
            });
            for &meaning in &found {
                match (own, colour(meaning)) {
                    (Some(thing), Some(colour)) => reading.painted.push((thing, colour)),
                    _ => reading.note(meaning, at, &mut pending),
                }
            }
            at += length;
        }
        reading.colours.extend(pending.map(|(_, colour)| colour));
        reading
    }

    /// A colour just before a thing belongs to the thing alone.
    fn claim(&mut self, thing: Thing, at: usize, pending: &mut Option<(usize, Lch)>) {
        let before = pending.take_if(|(before, _)| *before + 2 >= at);
        self.painted.extend(before.map(|(_, colour)| (thing, colour)));
    }

    fn note(&mut self, meaning: Meaning, at: usize, pending: &mut Option<(usize, Lch)>) {
        match meaning {
            Meaning::In(setting) => {
                self.settings.push(setting);
                if setting.is_land() {
                    self.claim(Thing::Land, at, pending);
                }
            }
            Meaning::Abstract => self.abstracted = true,
            Meaning::As(style) => self.styles.push(style),
            Meaning::Like(style) => self.hints.push(style),
            Meaning::At(time) => self.times.push(time),
            Meaning::During(season) => self.seasons.push(season),
            Meaning::With(thing) => {
                self.things.add(thing);
                if thing.is_paintable() {
                    self.claim(thing, at, pending);
                }
            }
            Meaning::Coloured(..) => {
                let colour = colour(meaning);
                // Of two names for one colour (emerald green) the last one counts.
                let before = pending.take().filter(|(before, _)| *before + 1 != at);
                self.colours.extend(before.map(|(_, colour)| colour));
                *pending = colour.map(|colour| (at, colour));
            }
            Meaning::Mood(chroma, lightness) => {
                self.chroma += chroma - 1.0;
                self.lightness += lightness;
            }
            Meaning::Monochrome => self.monochrome = true,
        }
    }
}

/// Words in lower case, without punctuation but for hyphens and `&` within.
pub(super) fn tokens(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '&'))
        .map(|word| word.trim_matches('-'))
        .filter(|word| !word.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}

fn longest(words: &[String]) -> (usize, Vec<Meaning>) {
    for length in (2..=words.len().min(3)).rev() {
        let found = meanings(&words[..length].join(" "));
        if !found.is_empty() {
            return (length, found);
        }
    }
    let whole = meanings(&words[0]);
    if whole.is_empty() && words[0].contains('-') {
        return (1, words[0].split('-').flat_map(meanings).collect());
    }
    (1, whole)
}

/// Where the picture is; `taste` decides what the words leave open.
pub(super) fn place(wanted: &Reading, refused: &Reading, taste: &Rng) -> Setting {
    let places: Vec<Setting> =
        wanted.settings.iter().copied().filter(|setting| !refused.settings.contains(setting)).collect();
    let any = || {
        let styles = [Style::Flow, Style::Waves, Style::Marble, Style::Mosaic, Style::Circles, Style::Flow];
        taste.fork("style").pick(&styles)
    };
    let hint = wanted.hints.first().copied();
    if let Some(&style) = wanted.styles.first() {
        return Setting::Abstract(style);
    }
    if wanted.abstracted && !refused.abstracted {
        let wavy = places.contains(&Setting::Sea).then_some(Style::Waves);
        return Setting::Abstract(wavy.or(hint).unwrap_or_else(any));
    }
    if let Some(place) = holder(&places).or_else(|| implied(wanted)) {
        return place;
    }
    Setting::Abstract(hint.unwrap_or_else(any))
}

/// The place that holds the others: a forest below mountains is a picture of mountains, with pines.
fn holder(places: &[Setting]) -> Option<Setting> {
    let first = places.first().copied()?;
    let holds = [Setting::Underwater, Setting::Space, Setting::City, Setting::Mountains, Setting::Forest];
    let holder = holds.into_iter().find(|setting| places.contains(setting));
    let keeps = matches!(first, Setting::Sea | Setting::Dunes | Setting::City);
    let holder = if keeps && holder != Some(Setting::Underwater) { None } else { holder };
    Some(holder.unwrap_or(first))
}

/// The place that things stand in where none is named.
fn implied(wanted: &Reading) -> Option<Setting> {
    let usual = [
        (Thing::Boat, Setting::Sea),
        (Thing::Lighthouse, Setting::Sea),
        (Thing::Palm, Setting::Sea),
        (Thing::Windows, Setting::City),
        (Thing::Water, Setting::Mountains),
        (Thing::Aurora, Setting::Mountains),
        (Thing::MilkyWay, Setting::Mountains),
        (Thing::Pines, Setting::Forest),
        (Thing::Planet, Setting::Space),
    ];
    let implied = usual.into_iter().find(|(thing, _)| wanted.things.has(*thing)).map(|(_, setting)| setting);
    // These make no place by themselves.
    let mut loose = Things::default();
    [Thing::People, Thing::Grain, Thing::Vignette, Thing::Glow]
        .into_iter()
        .for_each(|thing| loose.add(thing));
    let outdoors =
        !wanted.things.without(loose).is_empty() || !wanted.times.is_empty() || !wanted.seasons.is_empty();
    implied.or_else(|| outdoors.then_some(Setting::Hills))
}

/// When it is.
pub(super) fn time(wanted: &Reading, refused: &Reading, setting: Setting, taste: &mut Rng) -> Time {
    let said = wanted.times.iter().copied().find(|time| !refused.times.contains(time));
    if let Some(time) = said {
        return time;
    }
    let usual: &[Time] = match setting {
        Setting::City => &[Time::Dusk, Time::Night, Time::Sunset],
        _ if wanted.things.has(Thing::Storm) || wanted.things.has(Thing::Rain) => &[Time::Dusk, Time::Noon],
        _ if wanted.things.has(Thing::Rainbow) => &[Time::Noon],
        _ if wanted.things.has(Thing::Fog) => &[Time::Dawn],
        Setting::Forest => &[Time::Dawn, Time::Golden, Time::Dusk],
        Setting::Dunes => &[Time::Golden, Time::Sunset],
        _ => &[Time::Dawn, Time::Golden, Time::Sunset, Time::Noon, Time::Noon],
    };
    let open: Vec<Time> = usual.iter().copied().filter(|time| !refused.times.contains(time)).collect();
    if open.is_empty() { Time::Golden } else { taste.pick(&open) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(prompt: &str) -> (Setting, Reading) {
        let wanted = Reading::of(&tokens(prompt));
        let refused = Reading::of_refusal(&wanted.refused);
        (place(&wanted, &refused, &Rng::new(1)), wanted)
    }

    #[test]
    fn place_of_a_prompt_is_the_one_that_holds_the_others() {
        for (prompt, setting) in [
            ("a forest below snowy mountains", Setting::Mountains),
            ("a lighthouse", Setting::Sea),
            ("a fish in the ocean", Setting::Underwater),
            ("a cat", Setting::Hills),
            ("an oasis with mountains far away", Setting::Dunes),
            ("abstract ocean", Setting::Abstract(Style::Waves)),
            ("minimalist mountains", Setting::Mountains),
            ("portrait of a woman", Setting::Abstract(Style::Marble)),
            ("Cityscape, at NIGHT!", Setting::City),
        ] {
            assert_eq!(read(prompt).0, setting, "{prompt}");
        }
    }

    #[test]
    fn plurals_and_phrases_are_understood() {
        assert!(read("hot-air balloons").1.things.has(Thing::Balloon));
        assert!(read("foxes").1.things.has(Thing::Fox));
        let northern = read("northern lights").1;
        assert!(northern.things.has(Thing::Aurora) && northern.lightness == 0.0);
    }

    #[test]
    fn colour_before_a_thing_is_claimed_by_it() {
        let (_, reading) = read("a red fox under a violet and teal sky");
        assert_eq!(reading.painted.len(), 1);
        assert_eq!(reading.painted[0].0, Thing::Fox);
        assert_eq!(reading.colours.len(), 2);
        assert_eq!(read("an emerald green silk").1.colours.len(), 1);
    }

    #[test]
    fn words_after_no_or_without_are_refused() {
        let (_, reading) = read("a lake without trees, no moon");
        assert!(!reading.things.has(Thing::Tree) && !reading.things.has(Thing::Moon));
        let refused = Reading::of_refusal(&reading.refused);
        assert!(refused.things.has(Thing::Tree) && refused.things.has(Thing::Moon));
        assert!(refused.times.is_empty(), "who wants no moon may want the night");
    }
}
