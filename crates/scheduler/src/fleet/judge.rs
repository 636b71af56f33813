//! The verdict on a node, and the pick: [`Fleet::place`].

use super::{
    account::Account,
    class::{Class, Counted, Evenly, Group, Key, NOWHERE, Static, Tags, Why},
    mix::assign,
    need::{GpuNeed, Near, Need, Over, Pull},
    state::{CELLS, Fleet, FleetError, Found, Placed},
    tree::{NEVER, Tree},
};
use crate::{
    filter::{Refusal, approved, closed, holds},
    strategy::Strategy,
};
use lattice_model::{
    AllocationId, NodeId,
    resource::{Taint, TaintEffect},
    taint::not_borne,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// What a wish weighs against all room.
pub(crate) const WISH: i64 = 1 << 32;
/// What a step of lost GPU weighs against what else is left.
const LOSS: i64 = 2048;
/// What a taint weighs that only makes worse: more than all wishes that people have.
const AVOID: i32 = 100_000_000;
/// No wish is greater.
const MOST: i64 = 1 << 29;

impl Fleet {
    /// Puts an allocation on the best node that can hold it.
    ///
    /// # Errors
    /// [`FleetError::NoFit`] with the account of why not; [`FleetError::Placed`] when it is placed already.
    pub fn place(&mut self, key: AllocationId, need: &Arc<Need>, tags: &Tags) -> Result<Placed, FleetError> {
        if self.by_key.contains_key(&key) {
            return Err(FleetError::Placed(key));
        }
        let class = self.class(need, tags, false);
        let Some((slot, score)) = self.best(class) else {
            return Err(FleetError::NoFit(Box::new(self.tell(class, false))));
        };
        let units = self.units(class, slot).unwrap_or(0);
        self.hold(key, need, tags, slot, units);
        let node = self.slots[slot as usize].machine.id();
        Ok(Placed { node, gpus: super::machine::bits(units).map(|at| at as u8).collect(), score })
    }

    /// Places all of them or none: a gang. The largest are placed first; the answers are in the order of the asks.
    ///
    /// # Errors
    /// That of the first one that finds no place beside those before it.
    pub fn place_all(&mut self, gang: &[(AllocationId, Arc<Need>, Tags)]) -> Result<Vec<Placed>, FleetError> {
        let mut order: Vec<usize> = (0..gang.len()).collect();
        let size = |at: &usize| {
            let need = &gang[*at].1;
            (need.gpus.as_ref().map_or(0, GpuNeed::sum), need.room.cpu, need.room.memory)
        };
        order.sort_by_key(|at| std::cmp::Reverse(size(at)));
        let mut placed: Vec<Option<Placed>> = vec![None; gang.len()];
        for at in order {
            let (key, need, tags) = &gang[at];
            match self.place(*key, need, tags) {
                Ok(one) => placed[at] = Some(one),
                Err(error) => {
                    for ((key, ..), _) in gang.iter().zip(&placed).filter(|(_, placed)| placed.is_some()) {
                        self.release(*key);
                    }
                    return Err(error);
                }
            }
        }
        Ok(placed.into_iter().flatten().collect())
    }

    /// The class of an ask, true to what is so now.
    pub(crate) fn class(&mut self, need: &Arc<Need>, tags: &Tags, evicts: bool) -> usize {
        self.tidy();
        let tags = if tags.is_empty() { Vec::new() } else { self.named_tags(need, tags) };
        let key = Key { need: Arc::clone(need), tags, evicts };
        self.tick += 1;
        let known = self.class_of.get(&key).copied();
        let at = match known {
            Some(at) if self.classes[at].as_ref().is_some_and(|class| class.layout == self.layout) => at,
            _ => {
                if let Some(old) = known {
                    self.forget(old);
                }
                let class = self.compile(key.clone());
                self.make_room(class.cells());
                self.cells += class.cells();
                let hole = self.classes.iter().position(Option::is_none);
                let at = hole.unwrap_or(self.classes.len());
                if hole.is_none() {
                    self.classes.push(None);
                }
                self.classes[at] = Some(Box::new(class));
                self.class_of.insert(key, at);
                at
            }
        };
        let Some(mut class) = self.classes[at].take() else { return at };
        class.used = self.tick;
        self.sync(&mut class);
        self.classes[at] = Some(class);
        at
    }

    fn forget(&mut self, at: usize) {
        if let Some(class) = self.classes[at].take() {
            self.class_of.remove(&class.key);
            self.cells -= class.cells();
        }
    }

    /// Those that were not used for longest go.
    fn make_room(&mut self, cells: usize) {
        while self.cells + cells > CELLS {
            let all = self.classes.iter().enumerate();
            let oldest = all.filter_map(|(at, class)| Some((class.as_ref()?.used, at))).min();
            let Some((_, at)) = oldest else { return };
            self.forget(at);
        }
    }

    /// A class whose verdicts are still to be found.
    fn compile(&mut self, key: Key) -> Class {
        let need = Arc::clone(&key.need);
        let shape = self.shape(&need);
        let own = |tag: &str| key.tags.iter().any(|own| **own == *tag);
        let (mut axes, mut near_node, mut near, mut spread) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let axis = |axes: &mut Vec<usize>, domains: usize| {
            axes.iter().position(|had| *had == domains).unwrap_or_else(|| {
                axes.push(domains);
                axes.len() - 1
            })
        };
        for (at, Near { tag, over, pull }) in need.near.iter().enumerate().take(200) {
            let domains = over.as_ref().map(|key| self.domains_of(key));
            let counter = self.counter(tag, domains, false);
            match domains {
                None => near_node.push((counter, at as u8, *pull, own(tag))),
                Some(domains) => {
                    let axis = axis(&mut axes, domains);
                    near.push(Counted { counter, axis, at: at as u8, rule: (*pull, own(tag)) });
                }
            }
        }
        for (at, rule) in need.spread.iter().enumerate().take(200) {
            let domains = self.domains_of(&rule.over);
            let counter = self.counter(&rule.tag, Some(domains), false);
            let axis = axis(&mut axes, domains);
            let loose = rule.over == Over::Leaving;
            let rule = Evenly { max_skew: rule.max_skew, weight: rule.weight, own: own(&rule.tag), loose };
            spread.push(Counted { counter, axis, at: at as u8, rule });
        }
        let (mut unwanted_node, mut unwanted) = (Vec::new(), Vec::new());
        for (counter, over) in self.unwanted(&key.tags) {
            match over {
                None => unwanted_node.push(counter),
                Some(domains) => {
                    let axis = axis(&mut axes, domains);
                    unwanted.push(Counted { counter, axis, at: 0, rule: () });
                }
            }
        }
        let crowd = need.crowd.as_ref().map(|crowd| self.counter(&crowd.tag, None, false));
        let nodes = self.slots.len();
        let mut groups: Vec<Group> = Vec::new();
        let mut place = Vec::with_capacity(nodes);
        let mut known = HashMap::new();
        for node in 0..nodes {
            let of = |axis: &usize| self.domains[*axis].of.get(node).copied().unwrap_or(NOWHERE);
            let domains: Vec<u32> = axes.iter().map(of).collect();
            let group = *known.entry(domains).or_insert_with_key(|domains| {
                groups.push(Group { domains: domains.clone(), ..Group::default() });
                groups.len() - 1
            });
            place.push((group as u32, groups[group].members.len() as u32));
            groups[group].members.push(node as u32);
        }
        Class {
            key,
            shape,
            layout: self.layout,
            // Neither has been looked at.
            mix: u64::MAX,
            at: 0,
            used: 0,
            near_node,
            unwanted_node,
            near,
            unwanted,
            spread,
            crowd,
            refused: BTreeMap::new(),
            nobody: Vec::new(),
            statics: vec![Static { refusal: None, wish: 0 }; nodes],
            why: vec![Why::Gone; nodes],
            place,
            groups,
        }
    }

    /// Brings the verdicts up to date.
    fn sync(&mut self, class: &mut Class) {
        let end = self.journal_base + self.journal.len() as u64;
        let musts = class.near_node.iter().filter(|(_, _, pull, _)| *pull == Pull::Must);
        let nobody: Vec<bool> = musts.map(|(at, ..)| self.counters[*at].total == 0).collect();
        let fresh = class.mix == u64::MAX;
        if fresh
            || class.mix != self.mix_version
            || class.at < self.journal_base
            || end - class.at > self.slots.len() as u64
            || nobody != class.nobody
        {
            class.nobody = nobody;
            class.mix = self.mix_version;
            class.refused.clear();
            for node in 0..class.why.len() {
                class.statics[node] = self.fixed(class, node);
            }
            self.alike = Some(HashMap::new());
            for at in 0..class.groups.len() {
                let members = std::mem::take(&mut class.groups[at].members);
                let mut scores = Vec::with_capacity(members.len());
                for node in &members {
                    scores.push(match self.verdict(class, *node as usize) {
                        Ok(score) => score,
                        Err(why) => {
                            class.why[*node as usize] = why;
                            *class.refused.entry(why).or_default() += 1;
                            NEVER
                        }
                    });
                }
                let ids = |at: usize| self.slots[members[at] as usize].machine.id();
                let group = &mut class.groups[at];
                group.fits = scores.iter().filter(|score| **score != NEVER).count() as u32;
                group.tree = Tree::new(scores, ids);
                group.possible =
                    members.iter().filter(|m| class.statics[**m as usize].refusal.is_none()).count() as u32;
                group.members = members;
            }
            self.alike = None;
        } else {
            // Once for each node; where its rules were touched, too, that entry is the later one.
            let since = (class.at - self.journal_base) as usize;
            let mut touched = self.journal[since..].to_vec();
            touched.sort_unstable();
            for at in 0..touched.len() {
                let (entry, next) = (touched[at], touched.get(at + 1));
                let node = (entry >> 1) as usize;
                if next.is_some_and(|next| next >> 1 == entry >> 1) {
                    continue;
                }
                if entry & 1 == 1 {
                    let (was, now) = (class.statics[node].refusal.is_none(), self.fixed(class, node));
                    class.statics[node] = now;
                    let group = &mut class.groups[class.place[node].0 as usize];
                    group.possible = group.possible + u32::from(now.refusal.is_none()) - u32::from(was);
                }
                let verdict = self.verdict(class, node);
                class.set(node, verdict, |slot| self.slots[slot].machine.id());
            }
        }
        class.at = end;
    }

    /// What a node is to an ask whatever runs there.
    pub(crate) fn fixed(&mut self, class: &Class, node: usize) -> Static {
        let (slot, need) = (&self.slots[node], &*class.key.need);
        if !slot.present {
            return Static { refusal: Some(Why::Gone), wish: 0 };
        }
        let machine = &slot.machine;
        let refusal = match approved(&machine.node) {
            false => Some(Refusal::NotApproved),
            true => need
                .rules
                .iter()
                .find_map(|rule| rule.refuses(&machine.node))
                .or_else(|| {
                    let keeps_out = [TaintEffect::Refuse, TaintEffect::Evict];
                    not_borne(&machine.taints, &need.tolerates, &keeps_out).cloned().map(Refusal::Taint)
                })
                .or_else(|| closed(&machine.node)),
        };
        if let Some(refusal) = refusal {
            return Static { refusal: Some(Why::Fixed(self.refusal(refusal))), wish: 0 };
        }
        let avoided = |taint: &&Taint| {
            taint.effect == TaintEffect::Avoid && !need.tolerates.iter().any(|one| one.bears(taint))
        };
        let avoided = machine.taints.iter().filter(avoided).count();
        let mut wish = -AVOID.saturating_mul(i32::try_from(avoided).unwrap_or(i32::MAX));
        let prefers = need.prefers.iter().filter(|(term, _)| holds(term, &machine.node));
        wish = prefers.fold(wish, |wish, (_, weight)| wish.saturating_add(*weight));
        Static { refusal: None, wish }
    }

    /// What speaks for a node by what is expected of it: that it stays, and its rank.
    pub(crate) fn expected(&self, class: &Class, node: usize) -> (i64, i64) {
        let (need, outlook) = (&class.key.need, &self.slots[node].machine.outlook);
        let stays = need.lasts.map_or(0, |lasts| {
            let chance = outlook.stays.get(usize::from(lasts.time)).copied().unwrap_or(0);
            i64::from(lasts.weight) * i64::from(chance) / 100
        });
        let rank = if need.gpus.is_some() { outlook.gpu_rank } else { outlook.rank };
        (stays, i64::from(need.merit) * i64::from(rank) / 100)
    }

    /// The score of a node by itself, without its domains.
    fn verdict(&mut self, class: &Class, node: usize) -> Result<i64, Why> {
        let fixed = class.statics[node];
        if let Some(why) = fixed.refusal {
            return Err(why);
        }
        if class.key.evicts {
            return self.way_out(class, node);
        }
        self.fits(class, node)?;
        let room = self.room(class, node).ok_or(Why::Gpu)?;
        Ok(self.wish(class, node).clamp(-MOST, MOST) * WISH + room)
    }

    /// Whether there is room, and those who are there agree.
    fn fits(&self, class: &Class, node: usize) -> Result<(), Why> {
        let (slot, need) = (&self.slots[node], &*class.key.need);
        if let Some(kind) = slot.free.lacks(&need.room) {
            return Err(Why::Room(kind));
        }
        let taken = need.ports.iter().position(|port| slot.ports.iter().any(|taken| taken.collides(port)));
        if let Some(at) = taken {
            return Err(Why::Port(at.min(255) as u8));
        }
        self.neighbours(class, node, &|_| 0)
    }

    /// How many of its like are on a node.
    pub(crate) fn crowd(&self, class: &Class, node: usize) -> u32 {
        class.crowd.map_or(0, |counter| self.counters[counter].at(node as u32))
    }

    /// Whether those on the node are no obstacle; `gone` is how many of a counter are no longer there.
    pub(crate) fn neighbours(
        &self,
        class: &Class,
        node: usize,
        gone: &dyn Fn(usize) -> u32,
    ) -> Result<(), Why> {
        let most = class.key.need.crowd.as_ref().and_then(|crowd| crowd.most);
        if let (Some(most), Some(counter)) = (most, class.crowd)
            && self.crowd(class, node).saturating_sub(gone(counter)) >= most
        {
            return Err(Why::Crowd);
        }
        for (counter, at, pull, own) in &class.near_node {
            let there = self.counters[*counter].at(node as u32).saturating_sub(gone(*counter));
            let nobody = self.counters[*counter].total == 0 && *own;
            match pull {
                Pull::Must if there == 0 && !nobody => return Err(Why::Near(*at)),
                Pull::MustNot if there > 0 => return Err(Why::Near(*at)),
                _ => {}
            }
        }
        let unwanted = |at: &&usize| self.counters[**at].at(node as u32) > gone(**at);
        match class.unwanted_node.iter().find(unwanted) {
            Some(_) => Err(Why::Unwanted),
            None => Ok(()),
        }
    }

    /// What a node has of what is wished for.
    pub(crate) fn wish(&self, class: &Class, node: usize) -> i64 {
        let near = class.near_node.iter().filter_map(|(counter, _, pull, _)| match pull {
            Pull::Prefers(weight) if self.counters[*counter].at(node as u32) > 0 => Some(i64::from(*weight)),
            _ => None,
        });
        let (stays, rank) = self.expected(class, node);
        i64::from(class.statics[node].wish) + near.sum::<i64>() + stays + rank - self.crowded(class, node)
    }

    /// How much worse a node is for those of its like that are there.
    pub(crate) fn crowded(&self, class: &Class, node: usize) -> i64 {
        let weight = class.key.need.crowd.as_ref().map_or(0, |crowd| crowd.weight);
        i64::from(weight) * i64::from(self.crowd(class, node))
    }

    /// How well it fits what is left; none where its GPUs do not do.
    pub(crate) fn room(&mut self, class: &Class, node: usize) -> Option<i64> {
        let need = &*class.key.need;
        let gpus = !self.slots[node].units.is_empty();
        let cost = match (&need.gpus, gpus) {
            (Some(ask), false) if ask.count > 0 => return None,
            (_, false) => 0,
            (_, true) => self.cost(class, node)?.1,
        };
        let slot = &self.slots[node];
        let left = match (self.strategy, gpus) {
            (Strategy::Spread, _) => slot.headroom(need),
            (Strategy::Pack, false) => 1000 - slot.headroom(need),
            (Strategy::Pack, true) => 0,
        };
        Some(left - cost.clamp(-(1 << 19), 1 << 19) * LOSS)
    }

    /// On a node with GPUs: which units, and the steps that it costs.
    fn cost(&mut self, class: &Class, node: usize) -> Option<(u64, i64)> {
        let Some(mut alike) = self.alike.take() else { return self.cost_anew(class, node) };
        // Who names GPUs cares which of those that are alike.
        let named = class.key.need.gpus.as_ref().is_some_and(|ask| !ask.ids.is_empty());
        let found = match self.slots[node].likeness().filter(|_| !named) {
            Some(likeness) => match alike.get(&likeness) {
                Some(known) => *known,
                None => {
                    let found = self.cost_anew(class, node);
                    alike.insert(likeness, found);
                    found
                }
            },
            None => self.cost_anew(class, node),
        };
        self.alike = Some(alike);
        found
    }

    fn cost_anew(&mut self, class: &Class, node: usize) -> Option<(u64, i64)> {
        let need = &*class.key.need;
        let slot = &mut self.slots[node];
        let mut asked = need.gpus.clone();
        let mut barred = 0;
        if let (Some(ask), Some(shape)) = (&mut asked, &class.shape) {
            if !slot.could(ask, shape, &slot.units_free) {
                return None;
            }
            let suiting = slot.suiting(ask, shape);
            if ask.count == GpuNeed::ALL {
                ask.count = suiting.count_ones() as u16;
            }
            barred = if ask.ids.is_empty() { 0 } else { !suiting };
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let before = match slot.loss {
            Some(loss) => loss,
            None => {
                let loss = self.mix.loss(&slot.gpu_state());
                slot.loss = Some(loss);
                loss
            }
        };
        let mut state = slot.gpu_state();
        state.cpu = state.cpu.saturating_sub(need.room.cpu);
        state.memory = state.memory.saturating_sub(need.room.memory);
        let found = match (&asked, &class.shape) {
            (Some(ask), Some(shape)) => assign(&self.mix, ask, shape, &state, barred, &mut scratch),
            _ => Some((0, self.mix.loss(&state))),
        };
        let sum = asked.as_ref().map_or(0, GpuNeed::sum);
        let cost = found.map(|(units, after)| {
            let model = slot.units.first().map(|unit| unit.model);
            let model = super::machine::bits(units).next().map(|at| slot.units[at].model).or(model);
            (units, self.mix.cost(before, after, model, sum))
        });
        self.scratch = scratch;
        cost
    }

    /// The units that an ask gets on a node.
    pub(crate) fn units(&mut self, at: usize, slot: u32) -> Option<u64> {
        let class = self.classes[at].take()?;
        let asks = class.key.need.gpus.as_ref().is_some_and(|gpus| gpus.count > 0);
        let found = if asks { self.cost(&class, slot as usize).map(|(units, _)| units) } else { Some(0) };
        self.classes[at] = Some(class);
        found
    }

    /// What the domains of a group say: how much it is wished for, or why not.
    ///
    /// `least` is what [`Fleet::least`] says.
    pub(crate) fn domains_allow(&self, class: &Class, group: &Group, least: &[u32]) -> Result<i64, Why> {
        let mut wish = 0i64;
        for Counted { counter, axis, at, rule: (pull, own) } in &class.near {
            let domain = group.domains[*axis];
            let there = if domain == NOWHERE { 0 } else { self.counters[*counter].at(domain) };
            match pull {
                Pull::Must if domain == NOWHERE => return Err(Why::Near(*at)),
                Pull::Must if there == 0 && !(*own && self.counters[*counter].total == 0) => {
                    return Err(Why::Near(*at));
                }
                Pull::MustNot if there > 0 => return Err(Why::Near(*at)),
                Pull::Prefers(weight) if there > 0 => wish += i64::from(*weight),
                _ => {}
            }
        }
        for Counted { counter, axis, .. } in &class.unwanted {
            let domain = group.domains[*axis];
            if domain != NOWHERE && self.counters[*counter].at(domain) > 0 {
                return Err(Why::Unwanted);
            }
        }
        for (counted, least) in class.spread.iter().zip(least) {
            let Counted { counter, axis, at, rule } = counted;
            let domain = group.domains[*axis];
            if domain == NOWHERE && rule.max_skew.is_some() {
                return Err(Why::Skew(*at));
            }
            // Those that are nowhere are together as far as wishes go; unless nobody expects them to leave.
            let there = counted.there(domain, self.counters[*counter].at(domain));
            if let Some(most) = rule.max_skew
                && u64::from(there) + u64::from(rule.own) > u64::from(*least) + u64::from(most)
            {
                return Err(Why::Skew(*at));
            }
            wish -= i64::from(rule.weight) * i64::from(there);
        }
        Ok(wish)
    }

    /// For each rule of an even spread, how many are in the emptiest domain that could take one more.
    pub(crate) fn least(&self, class: &Class) -> Vec<u32> {
        let least = |rule: &Counted<Evenly>| {
            let domains = class.groups.iter().filter(|group| group.possible > 0);
            let domains = domains.map(|group| group.domains[rule.axis]).filter(|domain| *domain != NOWHERE);
            domains.map(|domain| self.counters[rule.counter].at(domain)).min().unwrap_or(0)
        };
        class.spread.iter().map(least).collect()
    }

    /// The best node of a class, and its score.
    pub(crate) fn best(&self, class: usize) -> Option<(u32, i64)> {
        let class = self.classes[class].as_ref()?;
        let mut best: Option<(i64, std::cmp::Reverse<NodeId>, u32)> = None;
        let least = self.least(class);
        for group in &class.groups {
            let Some((at, score)) = group.tree.best() else { continue };
            let Ok(wish) = self.domains_allow(class, group, &least) else { continue };
            let slot = group.members[at];
            let wish = if class.key.evicts { 0 } else { wish.clamp(-MOST, MOST) * WISH };
            let found = (score + wish, std::cmp::Reverse(self.slots[slot as usize].machine.id()), slot);
            if best.is_none_or(|best| found > best) {
                best = Some(found);
            }
        }
        best.map(|(score, _, slot)| (slot, score))
    }

    /// What a plain look at every node says, without anything that was kept: the score of each, or none.
    #[doc(hidden)]
    pub fn scores(&mut self, need: &Arc<Need>, tags: &Tags) -> Vec<(NodeId, Option<i64>)> {
        let tags = self.named_tags(need, tags);
        let mut class = self.compile(Key { need: Arc::clone(need), tags, evicts: false });
        self.slots.iter_mut().for_each(|slot| slot.loss = None);
        self.sync(&mut class);
        let nodes: Vec<_> = self.by_id.iter().map(|(id, at)| (*id, *at as usize)).collect();
        let least = self.least(&class);
        let score = |at: usize| {
            let own = class.score(at);
            let group = &class.groups[class.place[at].0 as usize];
            let wish = self.domains_allow(&class, group, &least).ok()?;
            (own != NEVER).then(|| own + wish.clamp(-MOST, MOST) * WISH)
        };
        nodes.into_iter().map(|(id, at)| (id, score(at))).collect()
    }

    /// Where an ask would go, without putting it there: the best node that can hold it and that `accepts` takes.
    ///
    /// # Errors
    /// Why none does, without what would have to change: [`Fleet::account`] says that too.
    pub fn find(
        &mut self,
        need: &Arc<Need>,
        tags: &Tags,
        accepts: &mut dyn FnMut(NodeId) -> Result<(), Refusal>,
    ) -> Result<Found, Box<Account>> {
        let at = self.class(need, tags, false);
        let mut passed: Vec<(usize, Refusal)> = Vec::new();
        let found = loop {
            let Some((slot, score)) = self.best(at) else { break None };
            let slot = slot as usize;
            match accepts(self.slots[slot].machine.id()) {
                Ok(()) => break Some((slot, score)),
                Err(refusal) => {
                    let Some(mut class) = self.classes[at].take() else { break None };
                    // It is judged again below, as if it had been touched.
                    class.set(slot, Err(Why::Gone), |slot| self.slots[slot].machine.id());
                    self.classes[at] = Some(class);
                    passed.push((slot, refusal));
                }
            }
        };
        let account = self.classes[at].take().map(|class| {
            let mut account = Account::of(self, &class, false);
            for (_, refusal) in &passed {
                *account.refused.entry(refusal.clone()).or_default() += 1;
            }
            self.classes[at] = Some(class);
            account
        });
        for (slot, _) in passed {
            let Some(mut class) = self.classes[at].take() else { break };
            let verdict = self.verdict(&class, slot);
            class.set(slot, verdict, |slot| self.slots[slot].machine.id());
            self.classes[at] = Some(class);
        }
        let account = account.unwrap_or_default();
        let Some((slot, score)) = found else { return Err(Box::new(account)) };
        let units = self.units(at, slot as u32).unwrap_or(0);
        let placed = Placed {
            node: self.slots[slot].machine.id(),
            gpus: super::machine::bits(units).map(|at| at as u8).collect(),
            score,
        };
        Ok(Found { placed, account })
    }

    /// Which GPUs an ask would get on a node.
    ///
    /// # Errors
    /// Why it cannot go there.
    pub fn find_on(&mut self, need: &Arc<Need>, tags: &Tags, node: NodeId) -> Result<Vec<u8>, Refusal> {
        let at = self.class(need, tags, false);
        let Some(slot) = self.by_id.get(&node).copied() else { return Err(Refusal::Pinned) };
        let Some(class) = self.classes[at].take() else { return Err(Refusal::Pinned) };
        let group = &class.groups[class.place[slot as usize].0 as usize];
        let against = match class.score(slot as usize) {
            NEVER => Some(class.why[slot as usize]),
            _ => self.domains_allow(&class, group, &self.least(&class)).err(),
        };
        let refusal = against.map(|why| Account::refusal(self, &class, slot as usize, why));
        self.classes[at] = Some(class);
        match refusal {
            Some(refusal) => Err(refusal),
            None => {
                let units = self.units(at, slot).unwrap_or(0);
                Ok(super::machine::bits(units).map(|at| at as u8).collect())
            }
        }
    }

    /// Why not, or why, with what would have to change: see [`Account`]. Takes milliseconds among many thousand nodes;
    /// the error of [`Fleet::place`] has the counts alone.
    pub fn account(&mut self, need: &Arc<Need>, tags: &Tags) -> Account {
        let class = self.class(need, tags, false);
        self.tell(class, true)
    }

    fn tell(&mut self, at: usize, full: bool) -> Account {
        let Some(class) = self.classes[at].take() else { return Account::default() };
        let account = Account::of(self, &class, full);
        self.classes[at] = Some(class);
        account
    }
}
