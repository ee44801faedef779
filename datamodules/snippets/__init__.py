"""Image references in CT reports ("series 4, image 38"), and the sentences without them."""
