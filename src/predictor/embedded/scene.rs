//! From a brief to the layers of a picture.

use std::cell::RefCell;
use std::rc::Rc;

use super::brief::{Setting, Thing};
use super::finish::{Bloom, Finish};
use super::plan::Plan;
use super::sky::rows;
use super::world::World;
use super::{abstracts, city, cosmos, deep, figures, nature, sky, weather};

/// All layers of the picture but the last look.
pub(super) fn compose<'a>(world: &'a World, plan: &mut Plan<'a>) {
    match world.brief.setting {
        Setting::Space => cosmos::space(world, plan),
        Setting::Underwater => deep::underwater(world, plan),
        Setting::Abstract(style) => abstracts::picture(world, plan, style),
        place => {
            sky::sky(world, plan);
            match place {
                Setting::City => city::skyline(world, plan),
                Setting::Sea => nature::sea(world, plan),
                Setting::Forest => nature::forest(world, plan),
                Setting::Dunes => nature::dunes(world, plan),
                Setting::Mountains => nature::mountains(world, plan),
                _ => nature::hills(world, plan),
            }
            weather::behind(world, plan);
            figures::place(world, plan);
            weather::before(world, plan);
        }
    }
}

/// The last look: bloom, tone, grain, bytes.
pub(super) fn finish<'a>(world: &'a World, plan: &mut Plan<'a>, finish: &'a mut Finish) {
    let frame = world.frame;
    let bloom = Bloom::new(world, rows(frame.width), rows(frame.height));
    let count = bloom.rows();
    let bloom = Rc::new(RefCell::new(bloom));
    let gathering = Rc::clone(&bloom);
    plan.add(count, frame.width * 6.0, move |canvas, rows| gathering.borrow_mut().gather(canvas, rows));
    let blurring = Rc::clone(&bloom);
    plan.add(1, frame.width * frame.height * 2.0, move |_, _| blurring.borrow_mut().blur(frame.unit));
    plan.add(rows(frame.height), frame.width * 45.0, move |canvas, rows| {
        finish.develop(canvas, &bloom.borrow(), rows);
    });
}

/// Whether `thing` is to be there: asked for, or welcome and a matter of chance.
pub(super) fn wants(world: &World, thing: Thing, chance: f32) -> bool {
    let brief = &world.brief;
    brief.asks(thing)
        || (brief.allows(thing) && brief.rng.fork("wants").fork(&format!("{thing:?}")).chance(chance))
}
