//! How this node stands among the others, for its owner: the server says it over the link, now and then. It is forgotten
//! when the agent ends, and told anew soon after the next start.

use lattice_link::message::Rank;
use lattice_model::Timestamp;
use serde::{Deserialize, Serialize};

/// What the server said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnRank {
    /// When, by this machine's clock.
    pub told: Timestamp,
    /// What it said.
    #[serde(flatten)]
    pub rank: Rank,
}

impl OwnRank {
    /// It in a few lines.
    pub fn sentences(&self) -> Vec<String> {
        let rank = &self.rank;
        let mut lines = vec![format!(
            "{} of {} points; place {} of {} among the {}s, {} of {} in all",
            rank.points, rank.most, rank.class_place, rank.class_size, rank.class, rank.place, rank.size
        )];
        if rank.best_streak_days > 0 {
            let days = |n: u32| if n == 1 { "1 day".to_owned() } else { format!("{n} days") };
            let (now, best) = (days(rank.streak_days), days(rank.best_streak_days));
            lines.push(format!("kept its promises on {now} in a row, {best} at best"));
        }
        if !rank.badges.is_empty() {
            lines.push(format!("badges: {}", rank.badges.join(", ")));
        }
        lines.extend(rank.probation.iter().map(|lacks| format!("on probation: {lacks}")));
        lines.extend(rank.marks.iter().map(|mark| format!("held against it: {mark}")));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_reads_where_the_machine_stands() {
        let rank = Rank {
            points: 702,
            most: 1000,
            class: "laptop".into(),
            class_place: 1,
            class_size: 4,
            place: 3,
            size: 12,
            streak_days: 1,
            best_streak_days: 40,
            badges: vec!["kept_week".into(), "kept_month".into()],
            ..Rank::default()
        };
        let own = OwnRank { told: Timestamp(5), rank };
        assert_eq!(
            own.sentences(),
            [
                "702 of 1000 points; place 1 of 4 among the laptops, 3 of 12 in all",
                "kept its promises on 1 day in a row, 40 days at best",
                "badges: kept_week, kept_month",
            ]
        );
        let rank = Rank { probation: Some("2 more measurements".into()), ..Rank::default() };
        assert_eq!(
            OwnRank { told: Timestamp(5), rank }.sentences()[1..],
            ["on probation: 2 more measurements"]
        );
        // Programs of the owner read it flat.
        let json = serde_json::to_value(&own).unwrap();
        assert_eq!((&json["told"], &json["points"]), (&5.into(), &702.into()));
        assert_eq!(serde_json::from_value::<OwnRank>(json).unwrap(), own);
    }
}
