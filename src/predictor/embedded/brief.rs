//! What a prompt asks for, as far as the artist understands it.

use super::colour::{Lch, hue_between};
use super::reading::{Reading, place, time, tokens};
use super::rng::{Rng, hash};
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

impl Things {
    /// Whether `thing` is in it.
    pub(super) const fn has(self, thing: Thing) -> bool {
        self.0 >> thing as u32 & 1 == 1
    }

    /// This set without what is in `others`.
    pub(super) const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether nothing is in it.
    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Puts `thing` in.
    pub(super) const fn add(&mut self, thing: Thing) {
        self.0 |= 1 << thing as u32;
    }
}

/// Words that are read; those after them only change the seed.
const MOST_WORDS: usize = 400;

impl Brief {
    /// Reads `request`; `seed` is the one that takes effect.
    pub(super) fn read(request: &Request, seed: u32) -> Self {
        let words = tokens(&request.prompt);
        let mut rng = Rng::new(u64::from(seed) << 32 ^ hash(words.join(" ").as_bytes()));
        let wanted = Reading::of(&words[..words.len().min(MOST_WORDS)]);
        let mut refusal = tokens(request.negative_prompt.as_deref().unwrap_or_default());
        refusal.extend(wanted.refused.iter().cloned());
        refusal.truncate(MOST_WORDS);
        let refused = Reading::of_refusal(&refusal);
        let strictness = (request.guidance_scale / 7.5).clamp(0.1, 2.0);
        #[expect(clippy::cast_possible_truncation, reason = "between 0.1 and 2")]
        let strictness = strictness as f32;

        let taste = Rng::new(hash(words.join(" ").as_bytes()));
        let setting = place(&wanted, &refused, &taste);
        let mut brief = Self {
            setting,
            time: time(&wanted, &refused, setting, &mut taste.fork("time")),
            season: wanted.seasons.iter().copied().find(|season| !refused.seasons.contains(season)),
            things: wanted.things.without(refused.things),
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

impl Setting {
    /// Whether it is land, which can have a colour of its own.
    pub(super) const fn is_land(self) -> bool {
        matches!(self, Self::Mountains | Self::Hills | Self::Dunes | Self::Forest)
    }
}

impl Thing {
    /// Whether a colour said before it is its own.
    pub(super) const fn is_paintable(self) -> bool {
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
