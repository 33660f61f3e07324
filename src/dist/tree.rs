//! The tree in which the results of shards meet: node (k, i) stands over the shards from 2ᵏ·i up to
//! 2ᵏ·(i + 1), as far as there are that many, and is the combination of its two halves. So what is
//! added to what depends on the number of shards alone.

/// A node of the tree: how many levels above the shards, and its number on that level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TreeNode {
    pub(crate) level: u32,
    pub(crate) index: usize,
}

/// The tree over this many shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) shards: usize,
}

impl TreeNode {
    /// The node of one shard.
    pub(crate) fn leaf(shard: usize) -> Self {
        TreeNode { level: 0, index: shard }
    }
}

impl Tree {
    /// Puts a node to those there are, which stand to the left of it, side by side. Calls `join`
    /// for each two halves of a node that are there then, with their places in the list: the right
    /// one is combined into the left one, and goes.
    pub(crate) fn push(
        self,
        nodes: &mut Vec<TreeNode>,
        node: TreeNode,
        mut join: impl FnMut(usize, usize),
    ) {
        nodes.push(self.lifted(node));
        while let [.., left, right] = nodes[..]
            && left.level == right.level
            && left.index.is_multiple_of(2)
            && right.index == left.index + 1
        {
            let at = nodes.len() - 2;
            join(at, at + 1);
            nodes.pop();
            nodes[at] = self.lifted(TreeNode { level: left.level + 1, index: left.index / 2 });
        }
    }

    /// The largest node over the same shards: the left half of a node whose right half is over
    /// none is that node.
    fn lifted(self, mut node: TreeNode) -> TreeNode {
        while node.index.is_multiple_of(2)
            && (node.index + 1) << node.level >= self.shards
            && !self.is_root(node)
        {
            node = TreeNode { level: node.level + 1, index: node.index / 2 };
        }
        node
    }

    /// Whether a node is over all shards.
    pub(crate) fn is_root(self, node: TreeNode) -> bool {
        node.index == 0 && 1 << node.level >= self.shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is added to what, as text.
    fn whole(shards: usize, runs: &[std::ops::Range<usize>]) -> String {
        let tree = Tree { shards };
        let mut all: Vec<(TreeNode, String)> = Vec::new();
        for run in runs {
            let (mut nodes, mut texts) = (Vec::new(), Vec::new());
            for shard in run.clone() {
                texts.push(shard.to_string());
                tree.push(&mut nodes, TreeNode::leaf(shard), |to, from| {
                    let right = texts.remove(from);
                    texts[to] = format!("({}+{right})", texts[to]);
                });
            }
            all.extend(nodes.into_iter().zip(texts));
        }
        let (mut nodes, mut texts) = (Vec::new(), Vec::new());
        for (node, text) in all {
            texts.push(text);
            tree.push(&mut nodes, node, |to, from| {
                let right: String = texts.remove(from);
                texts[to] = format!("({}+{right})", texts[to]);
            });
        }
        assert!(nodes.len() == 1 && tree.is_root(nodes[0]), "{nodes:?}");
        texts.remove(0)
    }

    #[test]
    fn the_sum_depends_on_the_shards_alone() {
        assert_eq!(whole(1, std::slice::from_ref(&(0..1))), "0");
        assert_eq!(whole(3, &[0..2, 2..3]), "((0+1)+2)");
        assert_eq!(whole(6, &[0..5, 5..6]), "(((0+1)+(2+3))+(4+5))");
        for shards in 1..40 {
            let want = whole(shards, std::slice::from_ref(&(0..shards)));
            for workers in 1..=9 {
                let run = |i| crate::kernel::team::part(shards, workers, i);
                let runs: Vec<_> = (0..workers).map(run).collect();
                assert_eq!(whole(shards, &runs), want, "{shards} shards, {workers} workers");
            }
        }
    }
}
