//! Stories of the messenger: what it does when peers are slow, busy, deaf, or gone.

use std::time::Duration;

use pilot_agent::proto::messenger::{Content, MessengerConfig, Outcome, Ticket};
use pilot_agent::proto::path::TrafficClass;
use pilot_agent::wire::frames::message::ErrorCode;

use super::world::{Link, World};
use super::{LAN, seconds, text};

/// Two hosts that know each other.
fn pair(link: Link, config: impl Fn(&mut MessengerConfig)) -> (World, usize, usize) {
    let mut world = World::new(11, link);
    config(&mut world.messenger);
    let (a, b) = (world.add_host(), world.add_host());
    world.introduce(a, b);
    (world, a, b)
}

fn send(world: &mut World, from: usize, to: usize, content: Content) -> Ticket {
    let to = world.hosts[to].here();
    world.at(from, |host, now| host.messenger.send(now, &mut host.endpoint, to, content, None))
}

fn request(world: &mut World, from: usize, to: usize, content: Content) -> Ticket {
    let to = world.hosts[to].here();
    world.at(from, |host, now| host.messenger.request(now, &mut host.endpoint, to, content, None))
}

fn take(world: &mut World, at: usize) -> Option<Content> {
    world
        .at(at, |host, now| host.messenger.take_message(now, &mut host.endpoint))
        .map(|message| message.content)
}

/// Takes a request and answers it with what `answer` makes of it.
fn serve(world: &mut World, at: usize, answer: impl Fn(&[u8]) -> Content) -> bool {
    let taken = world.at(at, |host, now| host.messenger.take_request(now, &mut host.endpoint));
    let Some(taken) = taken else { return false };
    let result = Ok(answer(&taken.content.data));
    world.at(at, |host, now| {
        host.messenger.reply(now, &mut host.endpoint, taken.ticket, result);
    });
    true
}

fn outcome(world: &World, at: usize, ticket: Ticket) -> Option<&Outcome> {
    world.hosts[at].outcomes.get(&ticket.number)
}

fn blob(len: usize) -> Content {
    Content { data: vec![7; len].into(), ..Content::default() }
}

#[test]
fn each_class_of_traffic_has_a_lane_of_its_own() {
    let (mut world, a, b) = pair(LAN, |_| {});
    let classes = [TrafficClass::Normal, TrafficClass::Bulk, TrafficClass::Control];
    let sent: Vec<_> = (0..4)
        .flat_map(|_| classes)
        .map(|class| send(&mut world, a, b, Content { class, ..text("of a class") }))
        .collect();
    world.run_for(seconds(2));
    assert!(sent.iter().all(|ticket| outcome(&world, a, *ticket) == Some(&Outcome::Delivered)));
    // Small ones of one class share theirs.
    assert_eq!(world.hosts[a].endpoint.stream_count(), classes.len());
}

#[test]
fn a_large_message_does_not_hold_up_small_ones() {
    let (mut world, a, b) = pair(LAN, |_| {});
    let large = send(&mut world, a, b, blob(20 << 20));
    world.run_for(Duration::from_millis(60));
    let small = send(&mut world, a, b, text("small"));
    let is_first =
        world.run_until(seconds(1), |world| outcome(world, a, small) == Some(&Outcome::Delivered));
    assert!(is_first && outcome(&world, a, large).is_none());
    let arrived =
        world.run_until(seconds(60), |world| outcome(world, a, large) == Some(&Outcome::Delivered));
    assert!(arrived);
    assert_eq!(take(&mut world, b), Some(text("small")));
    assert_eq!(take(&mut world, b), Some(blob(20 << 20)));
}

#[test]
fn a_full_inbox_acknowledges_nothing_until_it_has_room() {
    let (mut world, a, b) = pair(LAN, |config| config.inbox_limit = 20_000);
    let tickets: Vec<Ticket> = (0..100).map(|_| send(&mut world, a, b, blob(1_000))).collect();
    world.run_for(seconds(5));
    let delivered = |world: &World| {
        tickets.iter().filter(|t| outcome(world, a, **t) == Some(&Outcome::Delivered)).count()
    };
    let before = delivered(&world);
    assert!((10..100).contains(&before), "{before} fit");
    let mut taken = 0;
    let all = world.run_until(seconds(60), |world| {
        while take(world, b).is_some() {
            taken += 1;
        }
        delivered(world) == 100
    });
    while take(&mut world, b).is_some() {
        taken += 1;
    }
    assert!(all && taken == 100, "{taken} taken");
}

#[test]
fn empty_messages_fill_an_inbox_too() {
    let (mut world, a, b) = pair(LAN, |config| config.inbox_limit = 10_000);
    let tickets: Vec<Ticket> =
        (0..5_000).map(|_| send(&mut world, a, b, Content::default())).collect();
    world.run_for(seconds(5));
    let delivered =
        tickets.iter().filter(|t| outcome(&world, a, **t) == Some(&Outcome::Delivered)).count();
    // One chunk of the stream is taken in whole before the limit is looked at.
    assert!(delivered < 5_000, "{delivered}");
}

#[test]
fn who_takes_no_requests_says_so() {
    let (mut world, a, b) = pair(LAN, |_| {});
    world.at(b, |host, _| host.messenger.set_serving(false));
    let ticket = request(&mut world, a, b, text("?"));
    assert!(world.run_until(seconds(3), |world| outcome(world, a, ticket).is_some()));
    let Some(Outcome::Rejected { code, .. }) = outcome(&world, a, ticket) else { panic!() };
    assert_eq!(*code, ErrorCode::NoHandler);
}

#[test]
fn a_handler_that_is_set_a_moment_later_is_in_time() {
    let (mut world, a, b) = pair(LAN, |_| {});
    world.at(b, |host, _| host.messenger.set_serving(false));
    let ticket = request(&mut world, a, b, text("?"));
    world.run_for(Duration::from_millis(500));
    world.at(b, |host, _| host.messenger.set_serving(true));
    assert!(serve(&mut world, b, |_| text("!")));
    assert!(world.run_until(seconds(1), |world| outcome(world, a, ticket).is_some()));
    assert_eq!(outcome(&world, a, ticket), Some(&Outcome::Replied(text("!"))));
}

#[test]
fn what_is_too_large_is_refused_and_the_rest_goes_on() {
    let (mut world, a, b) = pair(LAN, |config| config.max_payload = 50_000);
    let large = send(&mut world, a, b, blob(50_001));
    let fits = send(&mut world, a, b, blob(50_000));
    let asks = request(&mut world, a, b, text("give me too much"));
    let done = world.run_until(seconds(5), |world| {
        serve(world, b, |_| blob(50_001));
        [large, fits, asks].iter().all(|ticket| outcome(world, a, *ticket).is_some())
    });
    assert!(done);
    assert_eq!(outcome(&world, a, fits), Some(&Outcome::Delivered));
    for refused in [large, asks] {
        let Some(Outcome::Rejected { code, text }) = outcome(&world, a, refused) else { panic!() };
        assert_eq!(*code, ErrorCode::TooLarge);
        assert!(text.contains("50001") && text.contains("50000"), "{text}");
    }
}

#[test]
fn a_cancelled_request_is_withdrawn_before_it_is_handled() {
    let (mut world, a, b) = pair(LAN, |_| {});
    let ticket = request(&mut world, a, b, text("never mind"));
    world.run_for(seconds(1));
    world.at(a, |host, now| host.messenger.cancel(now, &mut host.endpoint, ticket.number));
    world.run_for(seconds(1));
    assert!(!serve(&mut world, b, |_| text("!")), "it is still there");
    assert_eq!(outcome(&world, a, ticket), None);
}

/// The lane breaks after the request was handled and before its reply arrived: the requester
/// asks again, and the handler does not run again.
#[test]
fn a_lost_reply_is_repeated_without_handling_the_request_twice() {
    let (mut world, a, b) = pair(LAN, |_| {});
    let ticket = request(&mut world, a, b, text("?"));
    world.run_for(seconds(1));
    let lane = world.hosts[a].endpoint.stream_ids().next().unwrap();
    world.block(a, b);
    assert!(serve(&mut world, b, |_| text("!")));
    world.at(a, |host, now| host.endpoint.abort(now, lane));
    world.run_for(Duration::from_millis(200));
    world.blocked.clear();
    assert!(world.run_until(seconds(10), |world| outcome(world, a, ticket).is_some()));
    assert_eq!(outcome(&world, a, ticket), Some(&Outcome::Replied(text("!"))));
    assert!(!serve(&mut world, b, |_| text("twice")));
}

/// A slow large message is overtaken by more small ones than the receiver remembers ids: the
/// sender holds them back instead.
#[test]
fn a_sender_does_not_outrun_the_receivers_memory() {
    let slow = Link { latency: Duration::from_millis(100), ..LAN };
    let (mut world, a, b) = pair(slow, |_| {});
    world.run_for(seconds(1));
    let large = send(&mut world, a, b, blob(8 << 20));
    let small: Vec<Ticket> =
        (0..20_000).map(|_| send(&mut world, a, b, Content::default())).collect();
    let mut taken = 0;
    let done = world.run_until(seconds(120), |world| {
        while take(world, b).is_some() {
            taken += 1;
        }
        world.hosts[a].outcomes.len() == small.len() + 1
    });
    while take(&mut world, b).is_some() {
        taken += 1;
    }
    assert!(done && outcome(&world, a, large) == Some(&Outcome::Delivered));
    assert_eq!(taken, small.len() + 1);
}

#[test]
fn idle_lanes_are_closed_and_opened_again() {
    let (mut world, a, b) = pair(LAN, |config| config.lane_idle = seconds(5));
    send(&mut world, a, b, text("one"));
    world.run_for(seconds(60));
    assert_eq!(world.hosts[a].endpoint.stream_count(), 0, "nothing is kept for an idle peer");
    assert_eq!(world.hosts[b].endpoint.stream_count(), 0);
    let two = send(&mut world, a, b, text("two"));
    assert!(world.run_until(seconds(1), |world| outcome(world, a, two).is_some()));
}

#[test]
fn a_deadline_ends_the_wait_and_withdraws_the_request() {
    let (mut world, a, b) = pair(LAN, |_| {});
    world.at(b, |host, _| host.messenger.set_serving(true));
    let limit = |world: &mut World, ticket: Ticket, after: Duration| {
        world.at(a, |host, now| host.messenger.set_deadline(ticket.number, now + after));
    };
    let kept = request(&mut world, a, b, text("kept"));
    let given_up = request(&mut world, a, b, text("given up"));
    let answered = request(&mut world, a, b, text("answered"));
    limit(&mut world, kept, seconds(1));
    limit(&mut world, kept, seconds(60));
    limit(&mut world, given_up, seconds(2));
    limit(&mut world, answered, seconds(2));
    world.run_for(seconds(1));
    assert!(serve(&mut world, b, |_| text("reply to the first")));
    world.run_for(seconds(2));
    assert_eq!(outcome(&world, a, kept), Some(&Outcome::Replied(text("reply to the first"))));
    assert_eq!(outcome(&world, a, given_up), Some(&Outcome::TimedOut));
    assert_eq!(outcome(&world, a, answered), Some(&Outcome::TimedOut));
    assert!(!serve(&mut world, b, |_| text("too late")), "what nobody waits for is not handled");
    let later = request(&mut world, a, b, text("later"));
    limit(&mut world, later, seconds(1));
    world.run_for(Duration::from_millis(100));
    assert!(serve(&mut world, b, |_| text("in time")));
    world.run_for(seconds(5));
    assert_eq!(outcome(&world, a, later), Some(&Outcome::Replied(text("in time"))));
}

/// Four packets for one exchange would be two too many.
#[test]
fn a_request_and_its_reply_take_one_packet_each_way() {
    let (mut world, a, b) = pair(LAN, |_| {});
    world.at(b, |host, _| host.messenger.set_serving(true));
    let exchange = |world: &mut World| {
        let ticket = request(world, a, b, text("?"));
        assert!(world.run_until(seconds(1), |world| world.hosts[b].messenger.has_request()));
        assert!(serve(world, b, |_| text("!")));
        assert!(world.run_until(seconds(1), |world| outcome(world, a, ticket).is_some()));
    };
    exchange(&mut world);
    let before = world.datagrams;
    for _ in 0..20 {
        exchange(&mut world);
    }
    // A path in use is probed once a second, from each end.
    let sent = world.datagrams - before;
    assert!((40..=44).contains(&sent), "{sent}");
}
