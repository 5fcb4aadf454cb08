// SPDX-License-Identifier: GPL-2.0

//! Does what a plan says to rovl, overlayfs and a plain copy, and compares.

use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};

use super::explained;
use super::op::{Op, Outcome, Step};
use super::sides::Side;
use super::state::{same, State};
use super::Plan;
use crate::env::{panic_text, PANICS, T};
use crate::sys::errno_name;

/// Trees are compared after so many steps, and at the end.
const STEPS_BETWEEN: usize = 20;

/// A difference that nothing explains.
pub struct Difference {
    /// What kind of difference it is: the same for a shorter plan that shows it.
    pub kind: String,
    pub text: String,
    /// After how many steps it shows.
    pub after: usize,
}

/// What was done in a run, to be told at its end.
#[derive(Default)]
pub struct Tally {
    /// How often each operation was done, and how often it worked.
    pub steps: BTreeMap<&'static str, (usize, usize)>,
    /// Documented refusals, with their reasons.
    pub refused: BTreeMap<(&'static str, &'static str), usize>,
    /// Where overlayfs differs, and rovl does what the plain copy does.
    pub overlay: BTreeMap<String, usize>,
}

fn text(outcome: &Outcome) -> String {
    match outcome {
        Ok(text) if text.is_empty() => "done".into(),
        Ok(text) => text.clone(),
        Err(errno) => errno_name(*errno),
    }
}

/// What of an outcome makes two differences the same kind.
fn kind(outcome: &Outcome) -> String {
    match outcome {
        Ok(_) => "worked".into(),
        Err(errno) => errno_name(*errno),
    }
}

fn alike(a: &Outcome, b: &Outcome) -> bool {
    match (a, b) {
        (Ok(a), Ok(b)) => same(a, b),
        (Err(a), Err(b)) => a == b,
        _ => false,
    }
}

/// Whether the plan shows a difference.
pub fn run(t: &T, plan: &Plan, tally: &mut Tally) -> Option<Difference> {
    let run = AssertUnwindSafe(|| Run::new(t, plan, tally).and_then(|mut run| run.all()));
    match catch_unwind(run) {
        Ok(Ok(())) => None,
        Ok(Err(difference)) => Some(difference),
        Err(panic) => {
            let text = panic_text(&*panic);
            if let Ok(mut panics) = PANICS.lock() {
                panics.clear();
            }
            // The names of the directories differ from run to run.
            let kind = text
                .chars()
                .filter(|c| c.is_ascii_alphabetic())
                .take(40)
                .collect();
            Some(Difference {
                kind,
                text,
                after: plan.steps.len(),
            })
        }
    }
}

struct Run<'a> {
    plan: &'a Plan,
    tally: &'a mut Tally,
    fstype: &'a str,
    ours: Side,
    /// Left out once overlayfs has gone a way of its own.
    theirs: Side,
    with_theirs: bool,
    plain: Side,
}

fn check(what: &str, a: &State, b: &State) -> Result<(), Difference> {
    let lines = a.differences(b);
    let Some((_, first)) = lines.first() else {
        return Ok(());
    };
    let some: Vec<&str> = lines
        .iter()
        .take(6)
        .map(|(text, _)| text.as_str())
        .collect();
    let some = some.join("\n");
    Err(Difference {
        kind: format!("{what}: {first}"),
        text: format!("{what}: {} differences\n{some}", lines.len()),
        after: 0,
    })
}

impl<'a> Run<'a> {
    fn new(t: &'a T, plan: &'a Plan, tally: &'a mut Tally) -> Result<Run<'a>, Difference> {
        let ours = Side::stack(t, plan, t.fstype());
        let theirs = Side::stack(t, plan, "overlay");
        let state = theirs.state();
        check(
            "rovl and overlay before the first step",
            &ours.state(),
            &state,
        )?;
        let plain = Side::plain(t, &ours.root);
        check(
            "rovl and its plain copy before the first step",
            &state,
            &plain.state(),
        )?;
        Ok(Run {
            plan,
            tally,
            fstype: t.fstype(),
            ours,
            theirs,
            with_theirs: true,
            plain,
        })
    }

    fn all(&mut self) -> Result<(), Difference> {
        for (i, step) in self.plan.steps.iter().enumerate() {
            let mut done = self.step(step);
            if i % STEPS_BETWEEN == STEPS_BETWEEN - 1 {
                done = done.and_then(|()| self.compare_trees());
            }
            done.map_err(|difference| Difference {
                after: i + 1,
                ..difference
            })?;
        }
        self.end().map_err(|difference| Difference {
            after: self.plan.steps.len(),
            ..difference
        })
    }

    fn end(&mut self) -> Result<(), Difference> {
        self.compare_trees()?;
        for side in [&mut self.ours, &mut self.theirs, &mut self.plain] {
            side.stop();
        }
        self.compare_uppers()?;
        self.change_places()?;
        for side in [&self.ours, &self.theirs] {
            if let Some(overlay) = &side.overlay {
                overlay.finish();
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), Difference> {
        if matches!(step.op, Op::DropCaches {}) {
            std::fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches");
            return Ok(());
        }
        let ours = self.ours.run(step);
        let count = self.tally.steps.entry(step.op.name()).or_default();
        count.0 += 1;
        count.1 += usize::from(ours.is_ok());
        let asked = self.with_theirs && !explained::copies_up_in_vain(&step.op, &ours);
        let theirs = asked.then(|| self.theirs.run(step));
        let refusal = explained::refusal(self.plan.options, &step.op, &ours);
        let plain = match refusal {
            None => Some(self.plain.run(step)),
            Some(_) => None,
        };
        if let Some(refusal) = refusal {
            let what = (refusal.what, refusal.why);
            *self.tally.refused.entry(what).or_default() += 1;
        }
        let difference = |than: &str, other: &Outcome| Difference {
            kind: format!("{} {} against {}", step.op.name(), kind(&ours), kind(other)),
            text: format!(
                "{step}: not as {than}\n    rovl:    {}\n    overlay: {}\n    plain:   {}",
                text(&ours),
                theirs.as_ref().map_or("left out".into(), text),
                plain.as_ref().map_or("not done".into(), text),
            ),
            after: 0,
        };
        match &plain {
            Some(plain) if !alike(&ours, plain) => {
                return Err(difference("on a plain tree", plain))
            }
            _ => {}
        }
        let Some(theirs) = &theirs else { return Ok(()) };
        if alike(&ours, theirs) {
            return Ok(());
        }
        if plain.is_none() {
            return Err(difference("overlay refuses", theirs));
        }
        let what = format!(
            "{}: {} instead of {}",
            step.op.name(),
            kind(theirs),
            kind(&ours)
        );
        self.leave_overlay_out(what);
        Ok(())
    }

    fn leave_overlay_out(&mut self, what: String) {
        *self.tally.overlay.entry(what).or_default() += 1;
        self.with_theirs = false;
        self.theirs.stop();
    }

    fn compare_trees(&mut self) -> Result<(), Difference> {
        let ours = self.ours.state();
        check("trees of rovl and of plain", &ours, &self.plain.state())?;
        if self.with_theirs {
            if let Err(d) = check("tree of overlay", &ours, &self.theirs.state()) {
                let path = d.text.lines().nth(1).unwrap_or_default();
                let lines: Vec<&str> = d.text.lines().skip(2).take(2).map(str::trim).collect();
                self.leave_overlay_out(format!("tree {path} {}", lines.join(" | ")));
            }
        }
        Ok(())
    }

    /// What the two wrote on disk.
    fn compare_uppers(&self) -> Result<(), Difference> {
        match (self.ours.upper(), self.theirs.upper()) {
            (Some(ours), Some(theirs)) if self.with_theirs => {
                check("upper layers of rovl and of overlay", &ours, &theirs)
            }
            _ => Ok(()),
        }
    }

    /// Each mounts what the other wrote, and then its own again.
    fn change_places(&self) -> Result<(), Difference> {
        let plain = self.plain.state();
        let before = self.theirs.state();
        if let Some(ours) = &self.ours.overlay {
            ours.remount_as("overlay");
            check(
                "what rovl wrote, mounted by overlay",
                &self.ours.state(),
                &plain,
            )?;
            ours.remount_as(self.fstype);
            check("mounted by rovl again", &self.ours.state(), &plain)?;
        }
        if let Some(theirs) = &self.theirs.overlay {
            theirs.remount_as(self.fstype);
            check(
                "what overlay wrote, mounted by rovl",
                &self.theirs.state(),
                &before,
            )?;
        }
        Ok(())
    }
}
