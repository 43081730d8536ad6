//! Which trace the code that runs now belongs to.
//!
//! It goes with the future, not with the thread: [`InContext`] sets it for each poll. A task that is spawned begins
//! without one.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderMap;

use super::{Kind, Span, TraceContext};

thread_local! {
    static CURRENT: RefCell<Option<TraceContext>> = const { RefCell::new(None) };
}

/// Writes the current trace into the headers of a call that goes on from here; nothing where there is none.
pub fn inject(headers: &mut HeaderMap) {
    with(|current| current.inject(headers));
}

/// Begins a span below the current one; it does nothing where nothing is recorded, and `name` is not asked then.
pub fn span(kind: Kind, name: impl FnOnce() -> String) -> Span {
    with(|current| current.child(kind, name)).unwrap_or_default()
}

/// The context of the current trace, for a task that is spawned: it begins without one.
pub fn current() -> Option<TraceContext> {
    with(TraceContext::clone)
}

/// Whether spans of the current trace are recorded.
pub fn is_recorded() -> bool {
    with(TraceContext::is_recorded).unwrap_or_default()
}

fn with<R>(look: impl FnOnce(&TraceContext) -> R) -> Option<R> {
    CURRENT.try_with(|current| current.borrow().as_ref().map(look)).ok().flatten()
}

/// Runs `work` with the context in `slot` as the current one; without one in it, nothing changes.
pub(super) fn scope<R>(slot: &mut Option<TraceContext>, work: impl FnOnce() -> R) -> R {
    if slot.is_none() {
        return work();
    }
    let _restore = Swapped::new(slot);
    work()
}

/// The slot's context is the current one until this is dropped, and the one before is in the slot.
struct Swapped<'a>(&'a mut Option<TraceContext>);

impl<'a> Swapped<'a> {
    fn new(slot: &'a mut Option<TraceContext>) -> Self {
        swap(slot);
        Self(slot)
    }
}

impl Drop for Swapped<'_> {
    fn drop(&mut self) {
        swap(self.0);
    }
}

/// A thread that ends has no current trace any more.
fn swap(slot: &mut Option<TraceContext>) {
    let _ = CURRENT.try_with(|current| std::mem::swap(&mut *current.borrow_mut(), slot));
}

pin_project_lite::pin_project! {
    /// A future that runs in a trace: see [`TraceContext::run`] and [`Span::run`].
    pub struct InContext<F> {
        #[pin]
        inner: F,
        slot: Option<TraceContext>,
    }
}

impl<F> InContext<F> {
    pub(super) fn new(inner: F, slot: Option<TraceContext>) -> Self {
        Self { inner, slot }
    }
}

impl<F: Future> Future for InContext<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        scope(this.slot, || this.inner.poll(cx))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join;

    use super::*;

    fn current() -> Option<String> {
        with(TraceContext::traceparent)
    }

    #[tokio::test]
    async fn context_goes_with_the_future_and_not_with_the_thread() {
        let (one, two) = (TraceContext::root(), TraceContext::root());
        let seen = || async {
            let before = current();
            tokio::task::yield_now().await;
            assert_eq!(before, current());
            before
        };
        let (first, second) = join(one.clone().run(seen()), two.clone().run(seen())).await;
        assert_eq!((first, second), (Some(one.traceparent()), Some(two.traceparent())));
        assert_eq!(current(), None);
    }

    #[tokio::test]
    async fn inner_context_is_over_when_its_future_pauses_or_panics() {
        let (outer, inner) = (TraceContext::root(), TraceContext::root());
        let expected = outer.traceparent();
        let run = outer.run(async move {
            assert_eq!(inner.clone().run(async { current() }).await, Some(inner.traceparent()));
            let panics = std::panic::AssertUnwindSafe(inner.run(async { panic!("on purpose") }));
            futures_util::FutureExt::catch_unwind(panics).await.unwrap_err();
            current()
        });
        assert_eq!(run.await, Some(expected));
    }

    #[test]
    fn without_a_context_nothing_is_injected_and_no_span_begins() {
        let mut headers = HeaderMap::new();
        inject(&mut headers);
        assert!(headers.is_empty() && !is_recorded());
        assert!(!span(Kind::Client, || unreachable!("nobody asks for a name")).is_recorded());
    }
}
