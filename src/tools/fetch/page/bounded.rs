//! The tree of a page that notices how it grows.

use std::borrow::Cow;
use std::cell::Cell;

use dom_query::{Document, NodeId};
use html5ever::tendril::StrTendril;
use html5ever::tree_builder::{ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::{Attribute, QualName};

/// Elements nest up to here; browsers allow twice as much. The parser needs a time that grows with the square of the
/// depth, and what reads the tree calls itself for every level.
const MAX_DEPTH: usize = 256;

/// A [`Document`] that notices how it grows. Everything is handed on to it.
#[derive(Default)]
pub(super) struct Bounded {
    document: Document,
    too_deep: Cell<bool>,
    appended: Cell<usize>,
}

impl Bounded {
    pub(super) fn is_too_deep(&self) -> bool {
        self.too_deep.get()
    }

    pub(super) fn nodes(&self) -> usize {
        self.document.tree.len()
    }

    /// How often something was put into the tree.
    pub(super) fn appended(&self) -> usize {
        self.appended.get()
    }

    /// Notices that something is put under `parent`.
    fn measure(&self, parent: NodeId) {
        self.appended.update(|appended| appended + 1);
        if self.document.tree.ancestor_ids_of_it(&parent, Some(MAX_DEPTH)).count() == MAX_DEPTH {
            self.too_deep.set(true);
        }
    }
}

impl TreeSink for Bounded {
    type Handle = NodeId;
    type Output = Document;
    type ElemName<'a> = <Document as TreeSink>::ElemName<'a>;

    fn append(&self, parent: &NodeId, child: NodeOrText<NodeId>) {
        self.measure(*parent);
        self.document.append(parent, child);
    }

    fn append_before_sibling(&self, sibling: &NodeId, child: NodeOrText<NodeId>) {
        self.measure(*sibling);
        self.document.append_before_sibling(sibling, child);
    }

    fn append_based_on_parent_node(&self, element: &NodeId, previous: &NodeId, child: NodeOrText<NodeId>) {
        self.measure(*element);
        self.measure(*previous);
        self.document.append_based_on_parent_node(element, previous, child);
    }

    fn reparent_children(&self, node: &NodeId, new_parent: &NodeId) {
        self.measure(*new_parent);
        self.document.reparent_children(node, new_parent);
    }

    fn finish(self) -> Document {
        self.document
    }

    /// Pages are full of mistakes, and nobody asks for them.
    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> NodeId {
        self.document.get_document()
    }

    fn elem_name<'a>(&'a self, target: &'a NodeId) -> Self::ElemName<'a> {
        self.document.elem_name(target)
    }

    fn create_element(&self, name: QualName, attributes: Vec<Attribute>, flags: ElementFlags) -> NodeId {
        self.document.create_element(name, attributes, flags)
    }

    fn create_comment(&self, text: StrTendril) -> NodeId {
        self.document.create_comment(text)
    }

    fn create_pi(&self, target: StrTendril, data: StrTendril) -> NodeId {
        self.document.create_pi(target, data)
    }

    fn append_doctype_to_document(&self, name: StrTendril, public_id: StrTendril, system_id: StrTendril) {
        self.document.append_doctype_to_document(name, public_id, system_id);
    }

    fn get_template_contents(&self, target: &NodeId) -> NodeId {
        self.document.get_template_contents(target)
    }

    fn same_node(&self, x: &NodeId, y: &NodeId) -> bool {
        self.document.same_node(x, y)
    }

    fn set_quirks_mode(&self, mode: QuirksMode) {
        self.document.set_quirks_mode(mode);
    }

    fn add_attrs_if_missing(&self, target: &NodeId, attributes: Vec<Attribute>) {
        self.document.add_attrs_if_missing(target, attributes);
    }

    fn remove_from_parent(&self, target: &NodeId) {
        self.document.remove_from_parent(target);
    }

    fn is_mathml_annotation_xml_integration_point(&self, handle: &NodeId) -> bool {
        self.document.is_mathml_annotation_xml_integration_point(handle)
    }
}
