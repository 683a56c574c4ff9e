//! What choosing a backend costs, and what a change of the backends costs.
//!
//! `cargo bench -p kakehi-lib --bench balancing [-- BACKENDS]` prints it. Not a test: nothing is asserted about time.
//! Without cargo's `--bench` (as under `cargo test --benches`) it runs with few choices.

use std::hint::black_box;

use kakehi_lib::balancing::{
    Burden, Draws, Maglev, RoundRobin, Seat, hash, least_loaded, power_of_two, random, rendezvous,
};

const BACKENDS_DEFAULT: usize = 1_000;
const CHOICES: usize = 1_000_000;
const TABLES: usize = 50;
const IN_TESTS: usize = 10;

/// As much of a backend as an algorithm asks for.
struct Member {
    id: u64,
    weight: u32,
    load: f64,
    up: bool,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let measured = arguments.iter().any(|argument| argument == "--bench");
    let (choices, tables) = if measured { (CHOICES, TABLES) } else { (IN_TESTS, 1) };
    let backends = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(BACKENDS_DEFAULT);
    for count in [10, 100, backends] {
        println!("{count} backends");
        let mut members: Vec<Member> = (0..count as u64)
            .map(|i| Member { id: hash::mix(i, 1), weight: 100, load: (i % 7) as f64, up: true })
            .collect();
        choose(&members, choices);
        if count == backends {
            for member in members.iter_mut().step_by(2) {
                member.up = false;
            }
            println!("{count} backends, every other one down");
            choose(&members, choices);
        }
        rebuild(count, tables);
    }
}

fn choose(members: &[Member], choices: usize) {
    let weight = |index: usize| members.get(index).filter(|member| member.up).map(|member| member.weight);
    let burden = |index: usize| Some(Burden { weight: weight(index)?, load: members.get(index)?.load });
    let show = |what: &str, mut pick: Box<dyn FnMut(usize) -> Option<usize> + '_>| {
        for i in 0..members.len().min(choices) {
            black_box(pick(i));
        }
        let nanos = time(choices, |i| assert!(black_box(pick(i)).is_some()));
        println!("  {what:<14} {nanos:>8.1} ns a choice");
    };
    let count = members.len();
    let mut rotation = RoundRobin::default();
    show("ROUND_ROBIN", Box::new(move |_| rotation.pick(count, weight)));
    let mut rotation = RoundRobin::default();
    show("  of a shard", Box::new(move |_| rotation.pick_of_some(count, weight)));
    show("RANDOM", Box::new(|i| random::pick(count, 100, &mut Draws::new(i as u64), weight)));
    show("LEAST_LOADED", Box::new(|i| least_loaded::pick(count, &mut Draws::new(i as u64), burden)));
    show("POWER_OF_TWO", Box::new(|i| power_of_two::pick(count, &mut Draws::new(i as u64), burden)));
    let place = |index: usize| Some((members.get(index)?.id, weight(index)?));
    show("HRW", Box::new(move |i| rendezvous::pick(count, i as u64, place)));
    let table = Maglev::new(seats(members.iter().map(|member| member.id)));
    show("MAGLEV", Box::new(move |i| table.pick(i as u64, |index| weight(index).is_some())));
}

fn seats(ids: impl Iterator<Item = u64>) -> Vec<Seat> {
    (0u16..).zip(ids).map(|(index, id)| Seat { index, id, weight: 100 }).collect()
}

/// A table made anew, and what it moves.
fn rebuild(count: usize, tables: usize) {
    let ids: Vec<u64> = (0..=count as u64).map(|i| hash::mix(i, 1)).collect();
    let all = || ids.iter().copied().take(count);
    let table = Maglev::new(seats(all()));
    let micros = time(tables, |_| drop(black_box(Maglev::new(seats(all()))))) / 1e3;
    println!("MAGLEV's table of {count}: {} slots, made in {micros:.0} us", table.len());
    let keys = 100_000;
    let moved = |what: &str, changed: &Maglev, is_its: &dyn Fn(usize, usize) -> bool| {
        let mut others = 0;
        for key in 0..keys {
            let (Some(before), Some(after)) = (table.pick(key, |_| true), changed.pick(key, |_| true)) else {
                continue;
            };
            others += u64::from(before != after && !is_its(before, after));
        }
        let percent = 100.0 * others as f64 / keys as f64;
        println!("  {what}: {percent:.2} % of the keys move between others");
    };
    // Who is left keeps the index.
    let mut left = seats(all());
    let gone = usize::from(left.remove(count / 2).index);
    moved("one removed", &Maglev::new(left), &|before, _| before == gone);
    let added = Maglev::new(seats(ids.iter().copied()));
    moved("one added", &added, &|_, after| after == count);
}

/// Nanoseconds of processor time a call.
fn time(calls: usize, mut call: impl FnMut(usize)) -> f64 {
    let start = processor_nanos();
    (0..calls).for_each(&mut call);
    (processor_nanos() - start) / f64::from(u32::try_from(calls.max(1)).unwrap_or(u32::MAX))
}

/// Time this process has run (proc(5), schedstat), so that a busy machine does not count.
fn processor_nanos() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default()
}
