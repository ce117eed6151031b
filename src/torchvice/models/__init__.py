"""Networks: built by timm, filled from local files, and where they keep their last map."""
