//! The words the artist knows, and what each asks for.
//!
//! An entry of several words is a phrase; plurals of English are understood without an entry.

use super::brief::Setting::{self, City, Dunes, Forest, Hills, Mountains, Sea, Space, Underwater};
use super::brief::Style::{Circles, Flow, Marble, Mosaic, Waves};
use super::brief::Thing::{self, *};
use super::brief::Time::{self, Dawn, Dusk, Golden, Night, Noon, Sunset};
use super::brief::{Season, Style};
use super::colour::Lch;

/// What a word asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Meaning {
    /// This place.
    In(Setting),
    /// A picture of no place.
    Abstract,
    /// A picture of no place in this style.
    As(Style),
    /// This style, if no place is named.
    Like(Style),
    /// This time of day.
    At(Time),
    /// This season.
    During(Season),
    /// That this thing be there.
    With(Thing),
    /// This colour: lightness, chroma, hue.
    Coloured(f32, f32, f32),
    /// More or less of chroma (a factor) and light (an offset of lightness).
    Mood(f32, f32),
    /// No colour at all.
    Monochrome,
}

use Meaning::{Abstract, As, At, Coloured, During, In, Like, Monochrome, Mood, With};

/// The meanings of `phrase`, in lower case; a word may stand in several entries.
pub(super) fn meanings(phrase: &str) -> Vec<Meaning> {
    let find = |word: &str| -> Vec<Meaning> {
        let knows = |words: &str| words.split('|').any(|known| known == word);
        TABLE.iter().filter(|(words, _)| knows(words)).flat_map(|&(_, meanings)| meanings).copied().collect()
    };
    let forms = [Some(phrase), phrase.strip_suffix('s'), phrase.strip_suffix("es")];
    forms.into_iter().flatten().map(find).find(|found| !found.is_empty()).unwrap_or_default()
}

/// The colour of a [`Meaning::Coloured`].
pub(super) fn colour(meaning: Meaning) -> Option<Lch> {
    if let Coloured(l, c, h) = meaning { Some(Lch::new(l, c, h)) } else { None }
}

/// Words (separated by `|`) and their meanings.
#[rustfmt::skip]
const TABLE: &[(&str, &[Meaning])] = &[
    // Places.
    ("mountain|peak|summit|alps|alpine|himalaya|everest|cliff|ridge|canyon|volcano|highland|matterhorn|fuji|fjord|glacier", &[In(Mountains)]),
    ("hill|valley|meadow|field|prairie|farm|countryside|pasture|grassland|landscape|vineyard|tuscany|steppe|savanna|savannah|knoll|country|nature|scenery|garden|park|village", &[In(Hills)]),
    ("desert|dune|sahara|sand|oasis|arid|mars|martian", &[In(Dunes)]),
    ("sea|ocean|seascape|seaside|wave|surf|coast|shore|beach|tropical|island|horizon|nautical|pacific|atlantic|lagoon|bay", &[In(Sea)]),
    ("lake|pond|river|reservoir|loch|reflection|mirror|reflecting|reflected", &[With(Water)]),
    ("fjord|harbour|harbor|waterfront|port|canal|riverside", &[With(Water)]),
    ("forest|wood|woodland|grove|jungle|rainforest|taiga|wilderness", &[In(Forest)]),
    ("city|cityscape|skyline|town|urban|skyscraper|downtown|metropolis|street|tokyo|manhattan|new york|london|paris|shanghai|building|architecture|tower", &[In(City)]),
    ("space|planet|galaxy|nebula|cosmos|cosmic|universe|interstellar|outer space|supernova|astronaut|orbit|saturn|jupiter|neptune|spaceship|starship|asteroid|comet", &[In(Space)]),
    ("underwater|coral reef|corals|reef|fish|seabed|undersea|deep sea|jellyfish|whale|shark|submarine|diving|kelp|octopus|dolphin|turtle|aquarium|atlantis|mermaid", &[In(Underwater)]),
    // Pictures of no place.
    ("abstract|non-representational|expressionism|expressionist", &[Abstract]),
    ("flow field|swirl|swirling|brushstroke|van gogh|impressionist", &[As(Flow)]),
    ("flow|smoke|silk|hair|wind|feather|music|dance|energy", &[Like(Flow)]),
    ("wave pattern|ribbon|layered|paper cut|papercut|curve", &[As(Waves)]),
    ("layer|gradient|wallpaper|background|calm|peace", &[Like(Waves)]),
    ("marble|liquid|fluid|agate|fractal|oil slick|psychedelic|plasma|acrylic|pour", &[As(Marble)]),
    ("ink|lava|opal|dream|portrait|face|soul|emotion|love|chaos", &[Like(Marble)]),
    ("mosaic|voronoi|stained glass|tile|crystalline|low poly|shattered|cubist|cubism", &[As(Mosaic)]),
    ("crystal|glass|gem|geode|window", &[Like(Mosaic)]),
    ("geometric|geometry|bauhaus|kandinsky|suprematism|suprematist|constructivist", &[As(Circles)]),
    ("circle|shape|minimal|minimalist|minimalism|square|triangle|logo|icon|poster|pattern|jazz", &[Like(Circles)]),
    // Times and seasons.
    ("dawn|sunrise|daybreak|early morning", &[At(Dawn)]),
    ("morning|noon|midday|day|daytime|daylight|afternoon|sunny|sunlit|bright day|blue sky|clear sky", &[At(Noon)]),
    ("golden hour|golden light|late afternoon|evening light|warm light", &[At(Golden)]),
    ("sunset|sundown|evening|afterglow|setting sun", &[At(Sunset)]),
    ("dusk|twilight|blue hour|gloaming|nightfall", &[At(Dusk)]),
    ("night|midnight|nighttime|nocturnal|night sky|starlit|dark sky", &[At(Night)]),
    ("spring|springtime|blossom|cherry blossom|sakura", &[During(Season::Spring)]),
    ("summer|summery", &[During(Season::Summer)]),
    ("autumn|fall|autumnal|november|october", &[During(Season::Autumn)]),
    ("winter|wintry|christmas|december|january|ice|icy|frozen|frost|frosty|arctic|antarctica|polar", &[During(Season::Winter)]),
    // Sky and weather.
    ("sun|sunbeam|sunshine", &[With(Sun)]),
    ("moon|moonlight|moonlit|full moon|moonrise", &[With(Moon), At(Night)]),
    ("crescent|crescent moon|new moon", &[With(Moon), With(Crescent), At(Night)]),
    ("star|starry|starry night|stargazing|constellation", &[With(Stars), At(Night)]),
    ("milky way|milkyway|galactic", &[With(MilkyWay), With(Stars), At(Night)]),
    ("aurora|northern lights|northern light|aurora borealis|southern lights|polar lights", &[With(Aurora), With(Stars), At(Night)]),
    ("cloud|cloudy|overcast|cumulus|cloudscape|sky", &[With(Clouds)]),
    ("rain|rainy|raining|drizzle|downpour|shower|monsoon|wet", &[With(Rain), With(Clouds)]),
    ("snowfall|snow falling|falling snow|snowing|blizzard|snowstorm|snowflake", &[With(Snow), During(Season::Winter)]),
    ("snow|snowy|snow-capped|snowcapped|snow covered", &[During(Season::Winter)]),
    ("fog|foggy|mist|misty|haze|hazy|smog", &[With(Fog)]),
    ("storm|stormy|thunderstorm|thunder|tempest|hurricane|tornado", &[With(Storm), With(Clouds)]),
    ("lightning|thunderbolt|lightning bolt", &[With(Lightning), With(Storm), With(Clouds)]),
    ("rainbow", &[With(Rainbow)]),
    ("ring|ringed|saturn", &[With(Rings), With(Planet)]),
    ("planet|jupiter|earth|neptune|alien world|exoplanet", &[With(Planet)]),
    ("nebula|galaxy|supernova|cosmic|cosmos|universe", &[With(Nebula)]),
    // Living and built things.
    ("tree|oak|maple|birch|willow|lone tree|cherry tree|cherry blossom|sakura|apple tree", &[With(Tree)]),
    ("pine|fir|spruce|conifer|evergreen|pine tree|christmas tree|cedar|redwood", &[With(Pines)]),
    ("palm|palm tree|tropical", &[With(Palm)]),
    ("flower|wildflower|blossom|poppy|poppies|daisy|daisies|rose|bloom|blooming|floral", &[With(Flowers)]),
    ("tulip|lavender|sunflower|vineyard|crop|wheat", &[With(Flowers), With(Rows)]),
    ("bird|seagull|gull|goose|geese|crow|raven|eagle|swallow|flock|hawk|dove|owl", &[With(Birds)]),
    ("boat|sailboat|ship|sail|yacht|sailing|schooner|regatta", &[With(Boat)]),
    ("castle|fortress|palace|cathedral|fairytale|fairy tale|kingdom", &[With(Castle), In(Hills)]),
    ("house|village|cottage|cabin|hut|home|barn|farmhouse|chalet|lodge", &[With(House)]),
    ("lighthouse|beacon", &[With(Lighthouse)]),
    ("balloon|hot air balloon|air balloon|hot-air balloon|airship", &[With(Balloon)]),
    ("fox|foxes|vixen", &[With(Fox)]),
    ("cat|kitten|kitty|feline", &[With(Cat)]),
    ("dog|puppy|wolf|wolves|hound|corgi|labrador|husky|coyote", &[With(Wolf)]),
    ("deer|stag|elk|reindeer|moose|doe", &[With(Deer)]),
    ("fish|goldfish|shark|dolphin|whale|koi", &[With(Fish)]),
    ("jellyfish|octopus|squid", &[With(Jellyfish)]),
    ("skyscraper|neon|cyberpunk|blade runner", &[With(Windows)]),
    ("building|skyscraper|person|people|human|man|woman", &[With(People)]),
    ("grass|reed|grassy|bush", &[With(Grass)]),
    ("water", &[With(Water)]),
    ("texture|grain|grainy|noise|noisy", &[With(Grain)]),
    ("vignette|border|frame", &[With(Vignette)]),
    ("glow|bloom|blur|blurry|glowing", &[With(Glow)]),
    // Colours: lightness, chroma, hue.
    ("red|scarlet", &[Coloured(0.58, 0.21, 27.0)]),
    ("crimson|ruby|carmine|blood|cherry", &[Coloured(0.50, 0.20, 20.0)]),
    ("maroon|burgundy|wine|oxblood|mahogany", &[Coloured(0.38, 0.13, 20.0)]),
    ("vermilion|vermillion|cinnabar|poppy|poppies|lava|fire|fiery|flame", &[Coloured(0.62, 0.21, 36.0)]),
    ("orange|tangerine|pumpkin|mandarin|carrot", &[Coloured(0.72, 0.17, 55.0)]),
    ("coral|salmon|flamingo", &[Coloured(0.72, 0.15, 28.0)]),
    ("terracotta|rust|rusty|copper|brick|sienna|clay|cinnamon", &[Coloured(0.55, 0.12, 45.0)]),
    ("peach|apricot", &[Coloured(0.82, 0.10, 60.0)]),
    ("brown|chocolate|coffee|umber|sepia|walnut|chestnut|bronze", &[Coloured(0.45, 0.07, 58.0)]),
    ("beige|cream|ivory|tan|khaki|vanilla|sandy|linen", &[Coloured(0.85, 0.05, 82.0)]),
    ("gold|golden|amber|honey|ochre|mustard|saffron", &[Coloured(0.76, 0.15, 78.0)]),
    ("yellow|lemon|canary|sunflower", &[Coloured(0.87, 0.17, 98.0)]),
    ("lime|chartreuse", &[Coloured(0.84, 0.20, 124.0)]),
    ("olive|moss|mossy", &[Coloured(0.55, 0.10, 115.0)]),
    ("green|emerald|grass green", &[Coloured(0.60, 0.16, 148.0)]),
    ("sage|mint|pistachio|celadon", &[Coloured(0.80, 0.08, 155.0)]),
    ("jade|viridian|malachite", &[Coloured(0.58, 0.11, 165.0)]),
    ("teal|petrol", &[Coloured(0.55, 0.10, 195.0)]),
    ("turquoise|aquamarine|aqua", &[Coloured(0.76, 0.12, 188.0)]),
    ("cyan", &[Coloured(0.80, 0.13, 205.0)]),
    ("azure|sky blue|cerulean|light blue|baby blue", &[Coloured(0.70, 0.13, 240.0)]),
    ("blue|cobalt|sapphire|royal blue", &[Coloured(0.52, 0.19, 262.0)]),
    ("navy|midnight blue|dark blue|prussian", &[Coloured(0.32, 0.12, 264.0)]),
    ("indigo|ultramarine", &[Coloured(0.42, 0.18, 278.0)]),
    ("periwinkle|cornflower|bluebell", &[Coloured(0.70, 0.12, 280.0)]),
    ("violet|purple|amethyst|grape", &[Coloured(0.52, 0.19, 302.0)]),
    ("lavender|lilac|mauve|wisteria", &[Coloured(0.74, 0.11, 305.0)]),
    ("plum|aubergine|eggplant", &[Coloured(0.40, 0.13, 325.0)]),
    ("magenta|fuchsia|orchid|neon", &[Coloured(0.62, 0.24, 338.0)]),
    ("pink|blush|cherry blossom|sakura|tulip|bubblegum", &[Coloured(0.78, 0.13, 355.0)]),
    ("rose|raspberry", &[Coloured(0.64, 0.18, 8.0)]),
    ("cyberpunk|synthwave|vaporwave|retrowave|blade runner", &[Coloured(0.58, 0.24, 335.0), Coloured(0.70, 0.14, 215.0), Mood(1.25, -0.02)]),
    ("mars|martian", &[Coloured(0.58, 0.14, 42.0)]),
    ("white|snow white|pearl|alabaster", &[Coloured(0.96, 0.005, 90.0)]),
    ("black|ebony|onyx|obsidian|jet black", &[Coloured(0.16, 0.01, 270.0)]),
    ("grey|gray|silver|slate|ash|charcoal|steel|concrete", &[Coloured(0.62, 0.015, 260.0)]),
    // Moods.
    ("vibrant|vivid|colorful|colourful|saturated|neon|lush|psychedelic|bold|radiant", &[Mood(1.3, 0.01)]),
    ("pastel|soft|delicate|gentle|watercolor|watercolour|airy|ethereal", &[Mood(0.72, 0.06)]),
    ("muted|faded|vintage|desaturated|subdued|bleak|somber|sombre|melancholy|minimalist|nostalgic|old", &[Mood(0.62, 0.0)]),
    ("dark|moody|gloomy|ominous|gothic|horror|shadow|haunted|sinister|mysterious|noir", &[Mood(0.85, -0.07)]),
    ("bright|light|cheerful|happy|joyful|luminous|sunny|brilliant", &[Mood(1.08, 0.05)]),
    ("warm|cozy|cosy", &[Coloured(0.74, 0.13, 62.0)]),
    ("cool|cold|chilly", &[Coloured(0.68, 0.09, 240.0)]),
    ("monochrome|black and white|black-and-white|greyscale|grayscale|noir|b&w|charcoal drawing|pencil", &[Monochrome]),
    ("sepia", &[Monochrome, Coloured(0.60, 0.06, 70.0)]),
];
