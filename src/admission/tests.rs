use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
};

use super::*;

type Entering = Pin<Box<dyn Future<Output = Result<Place, Full>>>>;

fn client(last_byte: u8) -> Client {
    Some(std::net::IpAddr::from([10, 0, 0, last_byte]).into())
}

fn queue(concurrency: usize, queue_size: usize) -> Admission {
    Admission::new(concurrency, queue_size, |_| {})
}

fn enter(admission: &Admission, client: Client) -> Entering {
    let admission = admission.clone();
    Box::pin(async move { admission.enter(client, |_| {}).await })
}

fn poll(entering: &mut Entering) -> Option<Result<Place, Full>> {
    match entering.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(entered) => Some(entered),
        Poll::Pending => None,
    }
}

fn place(admission: &Admission, client: Client) -> Place {
    poll(&mut enter(admission, client)).expect("ready").expect("a place")
}

/// Enters, and has to wait.
fn wait(admission: &Admission, client: Client) -> Entering {
    let mut entering = enter(admission, client);
    assert!(poll(&mut entering).is_none(), "it waits");
    entering
}

fn refused(admission: &Admission, client: Client) -> Full {
    poll(&mut enter(admission, client)).expect("ready").expect_err("no room")
}

#[test]
fn queue_full_of_few_refuses_at_once() {
    let admission = queue(1, 1);
    let _running = place(&admission, client(1));
    let mut waiting = wait(&admission, client(1));
    let full = Full { waiting: 1, displaced: false };
    assert_eq!(refused(&admission, client(1)), full);
    assert_eq!(refused(&admission, client(2)), full, "each would have as much as the other");
    assert!(poll(&mut waiting).is_none(), "who waits still waits");
    assert_eq!(refused(&queue(0, 0), client(1)).waiting, 0);
}

#[test]
fn places_go_to_the_client_served_longest_ago() {
    let admission = queue(1, 8);
    let running = place(&admission, client(1));
    let mut first = wait(&admission, client(1));
    let mut bob = wait(&admission, client(2));
    let mut second = wait(&admission, client(1));
    drop(running);
    let running = poll(&mut bob).expect("the other client's turn").expect("a place");
    assert!(poll(&mut first).is_none() && poll(&mut second).is_none());
    drop(running);
    let running = poll(&mut first).expect("its turn").expect("a place");
    assert!(poll(&mut second).is_none());
    drop(running);
    assert!(poll(&mut second).is_some());
}

#[test]
fn client_with_one_request_at_a_time_does_not_always_come_first() {
    let admission = queue(1, 8);
    let mut running = place(&admission, client(1));
    let mut many = [wait(&admission, client(2)), wait(&admission, client(2)), wait(&admission, client(2))];
    for entering in &mut many {
        // As soon as it is served it asks again: it has a turn, and so has who waits.
        let mut again = wait(&admission, client(1));
        drop(running);
        let place = poll(entering).expect("its turn").expect("a place");
        assert!(poll(&mut again).is_none());
        drop(place);
        running = poll(&mut again).expect("its turn").expect("a place");
    }
}

#[test]
fn client_that_fills_the_queue_makes_room_for_others_from_its_end() {
    let admission = queue(1, 4);
    let running = place(&admission, client(1));
    let mut greedy: Vec<_> = (0..4).map(|_| wait(&admission, client(1))).collect();
    let mut bob = wait(&admission, client(2));
    let full = Full { waiting: 4, displaced: true };
    assert_eq!(poll(&mut greedy.pop().expect("the last")).expect("ready").expect_err("displaced"), full);
    assert_eq!(refused(&admission, client(1)).waiting, 4, "it does not come back");
    let mut carol = wait(&admission, client(3));
    assert!(poll(&mut greedy.pop().expect("the third")).expect("ready").is_err());
    assert!(greedy.iter_mut().all(|entering| poll(entering).is_none()), "the others wait on");

    // Two of one, one each of the others: nothing would be more even.
    assert!(!refused(&admission, client(2)).displaced);
    // One who has nothing yet still takes the second seat of who has two.
    let mut dave = wait(&admission, client(4));
    assert!(poll(&mut greedy.pop().expect("the second")).expect("ready").is_err());
    assert!(!refused(&admission, client(5)).displaced, "four clients, four seats");

    drop(running);
    for entering in [&mut bob, &mut carol, &mut dave, &mut greedy[0]] {
        drop(poll(entering).expect("its turn").expect("a place"));
    }
    assert_eq!((admission.running(), admission.waiting()), (0, 0));
    assert!(admission.0.lock().clients.is_empty(), "nobody is remembered");
}

#[test]
fn displaced_one_that_leaves_takes_nobody_with_it() {
    let admission = queue(1, 2);
    let running = place(&admission, client(1));
    let (mut first, displaced) = (wait(&admission, client(1)), wait(&admission, client(1)));
    let mut bob = wait(&admission, client(2));
    drop(displaced);
    assert_eq!(admission.waiting(), 2);
    drop(running);
    drop(poll(&mut bob).expect("its turn").expect("a place"));
    assert!(poll(&mut first).expect("its turn").is_ok());
}

#[test]
fn waiter_that_leaves_frees_its_seat_and_moves_the_others_up() {
    static DEPTH: AtomicUsize = AtomicUsize::new(usize::MAX);
    let admission = Admission::new(1, 8, |depth| DEPTH.store(depth, Ordering::SeqCst));
    assert_eq!(DEPTH.load(Ordering::SeqCst), 0);
    let running = place(&admission, client(1));
    let leaver = wait(&admission, client(1));
    let position = Arc::new(AtomicUsize::new(usize::MAX));
    let (told, entering) = (Arc::clone(&position), admission.clone());
    let mut last: Entering =
        Box::pin(
            async move { entering.enter(client(1), move |ahead| told.store(ahead, Ordering::SeqCst)).await },
        );
    assert!(poll(&mut last).is_none());
    assert_eq!((position.load(Ordering::SeqCst), DEPTH.load(Ordering::SeqCst)), (1, 2));
    drop(leaver);
    assert_eq!((position.load(Ordering::SeqCst), DEPTH.load(Ordering::SeqCst)), (0, 1));
    drop(running);
    assert!(poll(&mut last).is_some());
    assert_eq!((admission.running(), admission.waiting()), (0, 0));
}
