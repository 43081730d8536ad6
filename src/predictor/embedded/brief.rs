//! What a prompt asks for, as far as the artist understands it.

use super::colour::{Lch, hue_between};
use super::rng::{Rng, hash};
use super::words::{Meaning, colour, meanings};
use crate::predictor::Request;

/// A place, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    /// A range, over a valley or a lake.
    Mountains,
    /// Rolling country.
    Hills,
    /// A desert.
    Dunes,
    /// The open sea, or a coast.
    Sea,
    /// Rows of pines.
    Forest,
    /// A skyline.
    City,
    /// Stars and planets.
    Space,
    /// Below the sea.
    Underwater,
    /// No place.
    Abstract(Style),
}

/// A kind of abstract picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Strokes along a field.
    Flow,
    /// Layers of cut paper.
    Waves,
    /// Poured paint.
    Marble,
    /// Stained glass.
    Mosaic,
    /// Circles and bars.
    Circles,
}

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    /// Pink and cool.
    Dawn,
    /// Blue and bright.
    Noon,
    /// Low warm light.
    Golden,
    /// Orange to violet.
    Sunset,
    /// After the sun.
    Dusk,
    /// Moon and stars.
    Night,
}

/// A time of year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Season {
    /// Fresh green and blossom.
    Spring,
    /// Full green.
    Summer,
    /// Yellow and red.
    Autumn,
    /// Snow.
    Winter,
}

/// Something that can be in a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thing {
    Sun,
    Moon,
    Crescent,
    Stars,
    MilkyWay,
    Aurora,
    Clouds,
    Rain,
    Snow,
    Fog,
    Storm,
    Lightning,
    Rainbow,
    Water,
    Tree,
    Pines,
    Palm,
    Flowers,
    Rows,
    Grass,
    Birds,
    Boat,
    House,
    Lighthouse,
    Balloon,
    Fox,
    Cat,
    Wolf,
    Deer,
    Fish,
    Jellyfish,
    Planet,
    Rings,
    Nebula,
    Windows,
    People,
    Land,
    Castle,
    Grain,
    Vignette,
    Glow,
}

/// A set of things.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Things(u64);

/// A prompt as understood.
#[derive(Debug, Clone)]
pub(super) struct Brief {
    /// Where.
    pub(super) setting: Setting,
    /// When.
    pub(super) time: Time,
    /// The time of year, if it was said.
    pub(super) season: Option<Season>,
    /// What was asked for.
    pub(super) things: Things,
    /// What was asked not to be there.
    pub(super) banned: Things,
    /// Colours for the whole picture.
    pub(super) colours: Vec<Lch>,
    /// Colours to keep away from.
    pub(super) unwanted: Vec<Lch>,
    /// Colours said of one thing (a red fox).
    pub(super) painted: Vec<(Thing, Lch)>,
    /// A factor on chroma.
    pub(super) chroma: f32,
    /// An offset of lightness.
    pub(super) lightness: f32,
    /// Whether there is no colour.
    pub(super) monochrome: bool,
    /// How closely the words are followed: 0 loosely, 1 as a stock model, 2 strictly.
    pub(super) strictness: f32,
    /// Chance: fixed by the seed and the words.
    pub(super) rng: Rng,
}

/// All the words of one text, sorted by what they ask for.
#[derive(Debug, Default)]
struct Reading {
    settings: Vec<Setting>,
    abstracted: bool,
    styles: Vec<Style>,
    hints: Vec<Style>,
    times: Vec<Time>,
    seasons: Vec<Season>,
    things: Things,
    colours: Vec<Lch>,
    painted: Vec<(Thing, Lch)>,
    chroma: f32,
    lightness: f32,
    monochrome: bool,
    /// Words after "no" or "without".
    refused: Vec<String>,
}

impl Things {
    /// Whether `thing` is in it.
    pub(super) const fn has(self, thing: Thing) -> bool {
        self.0 >> thing as u32 & 1 == 1
    }

    /// Puts `thing` in.
    pub(super) const fn add(&mut self, thing: Thing) {
        self.0 |= 1 << thing as u32;
    }
}

impl Brief {
    /// Reads `request`; `seed` is the one that takes effect.
    pub(super) fn read(request: &Request, seed: u32) -> Self {
        let words = tokens(&request.prompt);
        let mut rng = Rng::new(u64::from(seed) << 32 ^ hash(words.join(" ").as_bytes()));
        let wanted = Reading::of(&words);
        let mut refusal = tokens(request.negative_prompt.as_deref().unwrap_or_default());
        refusal.extend(wanted.refused.iter().cloned());
        let refused = Reading::of_refusal(&refusal);
        let strictness = (request.guidance_scale / 7.5).clamp(0.1, 2.0);
        #[expect(clippy::cast_possible_truncation, reason = "between 0.1 and 2")]
        let strictness = strictness as f32;

        let taste = Rng::new(hash(words.join(" ").as_bytes()));
        let setting = setting(&wanted, &refused, &taste);
        let mut brief = Self {
            setting,
            time: time(&wanted, &refused, setting, &mut taste.fork("time")),
            season: wanted.seasons.iter().copied().find(|season| !refused.seasons.contains(season)),
            things: Things(wanted.things.0 & !refused.things.0),
            banned: refused.things,
            colours: wanted.colours,
            unwanted: refused.colours,
            painted: wanted.painted,
            chroma: (0.62 + 0.38 * strictness.min(1.5)) * (1.0 + wanted.chroma),
            lightness: wanted.lightness - refused.lightness,
            monochrome: wanted.monochrome && !refused.monochrome,
            strictness,
            rng: Rng::new(rng.next()),
        };
        brief.fill_in(&mut taste.fork("fill"));
        brief
    }

    /// Whether `thing` was asked for.
    pub(super) const fn asks(&self, thing: Thing) -> bool {
        self.things.has(thing)
    }

    /// Whether `thing` may be added unasked.
    pub(super) const fn allows(&self, thing: Thing) -> bool {
        !self.banned.has(thing)
    }

    /// Whether an animal stands in the foreground.
    pub(super) const fn has_animal(&self) -> bool {
        self.asks(Thing::Fox) || self.asks(Thing::Cat) || self.asks(Thing::Wolf) || self.asks(Thing::Deer)
    }

    /// The colour said of `thing`, if one was.
    pub(super) fn colour_of(&self, thing: Thing) -> Option<Lch> {
        self.painted.iter().find(|(painted, _)| *painted == thing).map(|&(_, colour)| colour)
    }

    /// Where the words leave it open, taste decides: a palette for a picture of no place.
    fn fill_in(&mut self, taste: &mut Rng) {
        let unwanted = self.unwanted.clone();
        let near = |colour: &Lch| unwanted.iter().any(|bad| hue_between(bad.h, colour.h).abs() < 32.0);
        self.colours.retain(|colour| colour.c < 0.02 || !near(colour));
        let placeless = matches!(self.setting, Setting::Abstract(_) | Setting::Space);
        if placeless && self.colours.is_empty() && self.setting != Setting::Space {
            self.colours = self.painted.iter().map(|&(_, colour)| colour).collect();
        }
        if placeless && self.colours.is_empty() {
            let hue = taste.range(0.0, 360.0);
            let spread = taste.pick(&[32.0, 60.0, 118.0, 165.0]);
            self.colours = vec![
                Lch::new(0.36, 0.13, hue),
                Lch::new(0.62, 0.16, hue + spread * 0.5),
                Lch::new(0.80, 0.12, hue + spread),
            ];
        }
    }
}

impl Reading {
    /// Sorts `words`; the longest phrase that is known wins.
    fn of(words: &[String]) -> Self {
        Self::read(words, false)
    }

    /// Sorts words of what is not wanted.
    fn of_refusal(words: &[String]) -> Self {
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

impl Setting {
    const fn is_land(self) -> bool {
        matches!(self, Self::Mountains | Self::Hills | Self::Dunes | Self::Forest)
    }
}

impl Thing {
    const fn is_paintable(self) -> bool {
        matches!(
            self,
            Self::Fox
                | Self::Cat
                | Self::Wolf
                | Self::Deer
                | Self::Boat
                | Self::House
                | Self::Lighthouse
                | Self::Balloon
                | Self::Flowers
                | Self::Fish
                | Self::Jellyfish
                | Self::Planet
                | Self::Tree
                | Self::Aurora
                | Self::Moon
                | Self::Birds
                | Self::Grass
                | Self::Castle
        )
    }
}

/// Words in lower case, without punctuation but for hyphens and `&` within.
fn tokens(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '&'))
        .map(|word| word.trim_matches('-'))
        .filter(|word| !word.is_empty())
        .take(400)
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

fn setting(wanted: &Reading, refused: &Reading, taste: &Rng) -> Setting {
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
    if let Some(place) = place(&places).or_else(|| implied(wanted)) {
        return place;
    }
    Setting::Abstract(hint.unwrap_or_else(any))
}

/// The place that holds the others: a forest below mountains is a picture of mountains, with pines.
fn place(places: &[Setting]) -> Option<Setting> {
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
    let outdoors = wanted.things.0 & !loose.0 != 0 || !wanted.times.is_empty() || !wanted.seasons.is_empty();
    implied.or_else(|| outdoors.then_some(Setting::Hills))
}

fn time(wanted: &Reading, refused: &Reading, setting: Setting, taste: &mut Rng) -> Time {
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
