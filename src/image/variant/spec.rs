use std::fmt;

use ::image::metadata::Orientation;

use super::{
    super::{Dimensions, pixels::scaled},
    VariantFormat,
};

/// How an image comes to the size asked for. It is never enlarged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Fit {
    /// Whole, in its own shape, within the box.
    #[default]
    Contain,
    /// In the shape of the box, filling it; what lies over two edges is cut.
    Cover,
    /// Whole, in the shape of the box: stretched.
    Fill,
}

/// Which variant of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VariantSpec {
    /// Pixels across at most.
    pub width: u32,
    /// Pixels down at most.
    pub height: u32,
    /// How it comes to that size.
    pub fit: Fit,
    /// The format of the result.
    pub format: VariantFormat,
    /// 1 to 100 for JPEG, WebP and AVIF; PNG has none, it is 0 there.
    pub quality: u8,
}

/// What to do with the decoded pixels, before they are turned upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// The shape of the middle part that is used; all of it without one.
    pub(super) crop: Option<Dimensions>,
    pub(super) to: Dimensions,
}

impl Fit {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Contain, Self::Cover, Self::Fill];

    /// `contain`, `cover` or `fill`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Contain => "contain",
            Self::Cover => "cover",
            Self::Fill => "fill",
        }
    }
}

impl VariantSpec {
    pub(super) fn plan(&self, pixels: Dimensions, orientation: Orientation) -> Plan {
        let turned = matches!(
            orientation,
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        );
        let swap = |Dimensions { width, height }| Dimensions { width: height, height: width };
        let plan = self.upright(if turned { swap(pixels) } else { pixels });
        if turned { Plan { crop: plan.crop.map(swap), to: swap(plan.to) } } else { plan }
    }

    /// The plan for an image that stands upright already.
    fn upright(&self, Dimensions { width, height }: Dimensions) -> Plan {
        let (box_width, box_height) = (self.width.max(1), self.height.max(1));
        // Whether the box is wider in shape than the image.
        let wider = u64::from(box_width) * u64::from(height) >= u64::from(box_height) * u64::from(width);
        match self.fit {
            Fit::Fill => Plan {
                crop: None,
                to: Dimensions { width: width.min(box_width), height: height.min(box_height) },
            },
            Fit::Contain if wider => {
                Plan { crop: None, to: to_height(width, height, height.min(box_height)) }
            }
            Fit::Contain => {
                let to = to_height(height, width, width.min(box_width));
                Plan { crop: None, to: Dimensions { width: to.height, height: to.width } }
            }
            Fit::Cover => {
                let shape = Dimensions { width: box_width, height: box_height };
                let to = if wider {
                    let to = to_height(box_height, box_width, box_width.min(width));
                    Dimensions { width: to.height, height: to.width }
                } else {
                    to_height(box_width, box_height, box_height.min(height))
                };
                Plan { crop: Some(shape), to }
            }
        }
    }
}

/// The size with this height and the shape of `width` by `height`.
fn to_height(width: u32, height: u32, to: u32) -> Dimensions {
    Dimensions { width: scaled(width, to, height).max(1), height: to.max(1) }
}

impl fmt::Display for VariantSpec {
    /// The one spelling of a variant: part of entity tags and signatures.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { width, height, fit, format, quality } = self;
        let format = format.name();
        write!(f, "w={width}&h={height}&fit={}&format={format}&q={quality}", fit.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Format;

    fn planned(fit: Fit, of: (u32, u32), into: (u32, u32)) -> (u32, u32) {
        let spec =
            VariantSpec { width: into.0, height: into.1, fit, format: Format::WebP.into(), quality: 80 };
        let plan = spec.plan(Dimensions { width: of.0, height: of.1 }, Orientation::NoTransforms);
        (plan.to.width, plan.to.height)
    }

    #[test]
    fn contain_keeps_the_shape_within_the_box() {
        for (of, into, to) in [
            ((1024, 1024), (512, 512), (512, 512)),
            ((1000, 500), (512, 512), (512, 256)),
            ((500, 1000), (512, 512), (256, 512)),
            ((1000, 500), (2048, 128), (256, 128)),
            ((300, 200), (512, 512), (300, 200)),
            ((1, 4096), (64, 64), (1, 64)),
            ((4096, 1), (64, 64), (64, 1)),
            ((1023, 769), (512, 2048), (512, 385)),
        ] {
            assert_eq!(planned(Fit::Contain, of, into), to, "{of:?} in {into:?}");
        }
    }

    #[test]
    fn cover_has_the_shape_of_the_box_and_is_not_enlarged() {
        for (of, into, to) in [
            ((1024, 1024), (512, 256), (512, 256)),
            ((1000, 500), (256, 256), (256, 256)),
            ((300, 200), (512, 512), (200, 200)),
            ((200, 300), (512, 256), (200, 100)),
            ((100, 1000), (2048, 64), (100, 3)),
            ((1, 1), (2048, 64), (1, 1)),
        ] {
            assert_eq!(planned(Fit::Cover, of, into), to, "{of:?} over {into:?}");
        }
    }

    #[test]
    fn fill_stretches_but_does_not_enlarge() {
        assert_eq!(planned(Fit::Fill, (1024, 512), (256, 256)), (256, 256));
        assert_eq!(planned(Fit::Fill, (100, 512), (256, 256)), (100, 256));
    }

    #[test]
    fn turned_image_is_planned_as_it_is_seen() {
        let spec =
            VariantSpec { width: 128, height: 64, fit: Fit::Cover, format: Format::Png.into(), quality: 0 };
        let plan = spec.plan(Dimensions { width: 500, height: 1000 }, Orientation::Rotate90);
        assert_eq!(plan.to, Dimensions { width: 64, height: 128 });
        assert_eq!(plan.crop, Some(Dimensions { width: 64, height: 128 }));
    }

    #[test]
    fn spelling_tells_variants_apart() {
        let spec =
            VariantSpec { width: 128, height: 64, fit: Fit::Cover, format: Format::WebP.into(), quality: 80 };
        assert_eq!(spec.to_string(), "w=128&h=64&fit=cover&format=webp&q=80");
    }
}
